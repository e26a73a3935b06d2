//! Runners that take no jobs until their self-test passes, and runners with equal names.

use std::time::Duration;

use redis::AsyncCommands;
use serde_json::Value;
use warmq_types::fault::FaultKind;
use warmq_types::ids::{AppId, Epoch, RunnerId};

use super::membership::Registration;
use super::{Error, Faults, RunnerEvent};

/// Another process with the same runner name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameConflict {
    /// Host name of its machine.
    pub host: String,
    /// Process id on that machine.
    pub pid: u32,
    /// Remaining time of its lease, ms.
    pub remaining_ms: u64,
    /// End of its lease, Unix ms; it grows while the process lives.
    pub lease_until_ms: u64,
}

/// Why a runner takes no jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultReport {
    /// Class of its latest fault.
    pub kind: FaultKind,
    /// What failed, for operators.
    pub details: String,
    /// When the fault began, Unix ms.
    pub since_ms: u64,
}

impl Faults<'_> {
    /// Returns the live process of another instance with the runner's name, if any.
    pub async fn name_conflict(
        self,
        registration: &Registration,
    ) -> Result<Option<NameConflict>, Error> {
        type Fields = (Option<String>, Option<String>, Option<u32>);
        let Registration { app, runner, .. } = registration;
        let ((instance, host, pid), lease_until_ms): (Fields, Option<u64>) = redis::pipe()
            .hmget(self.keys.runner(app, runner), &["instance", "host", "pid"])
            .zscore(self.keys.runners(app), runner.as_str())
            .query_async(&mut self.connection.clone())
            .await?;
        let now_ms = self.now_ms().await?;
        let lease_until_ms = lease_until_ms.unwrap_or(0);
        let remaining_ms = lease_until_ms.saturating_sub(now_ms);
        let is_other =
            instance.is_some_and(|other| !other.is_empty() && other != registration.instance);
        Ok((is_other && remaining_ms > 0).then(|| NameConflict {
            host: host.unwrap_or_default(),
            pid: pid.unwrap_or(0),
            remaining_ms,
            lease_until_ms,
        }))
    }

    /// Registers a runner that takes no jobs, with the reason, and publishes the fault.
    pub async fn register(
        self,
        registration: &Registration,
        schema: &Value,
        lease: Duration,
        faulty: &FaultReport,
    ) -> Result<(), Error> {
        let Registration { app, runner, .. } = registration;
        self.membership().introduce(registration, schema).await?;
        let mut invocation = self.scripts.register_faulty.prepare_invoke();
        invocation
            .key(self.keys.runner(app, runner))
            .key(self.keys.runners(app))
            .key(self.keys.faulty(app))
            .key(self.keys.drain_request(app, runner))
            .key(self.keys.draining(app))
            .arg(runner.as_str())
            .arg(lease.as_millis() as u64);
        for (field, value) in registration.fields() {
            invocation.arg(field).arg(value);
        }
        invocation
            .arg("fault")
            .arg(format!("{}: {}", faulty.kind, faulty.details))
            .arg("fault_since_ms")
            .arg(faulty.since_ms);
        Ok(invocation
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Publishes that a runner failed an attempt, for the leader's metrics. A lost message costs
    /// one count.
    pub async fn publish(
        self,
        app: &AppId,
        runner: &RunnerId,
        epoch: Epoch,
        kind: FaultKind,
    ) -> Result<(), Error> {
        let change = RunnerEvent::Faulted {
            runner: runner.clone(),
            epoch,
            kind,
        };
        let text = super::record::json(&change);
        let mut connection = self.connection.clone();
        let _: () = connection
            .publish(self.keys.runner_events(app), text)
            .await?;
        Ok(())
    }
}
