//! Recovery from a fault: the runner stays listed as faulty, takes no jobs, and repeats the
//! self-test with growing delays.

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use warmq_process::clock::unix_ms;
use warmq_process::retry::Delays;
use warmq_store::{FaultReport, Heartbeat, RunnerReport};
use warmq_types::ids::{Epoch, RunnerId};

use crate::context::WorkerContext;
use crate::fault::Fault;
use crate::incarnation::{await_name, epoch_after, registration};
use crate::runner::Runner;
use crate::self_test::self_test;

/// How recovery ended.
pub(crate) enum Recovery {
    /// The self-test passed.
    Healthy,
    /// The worker stops.
    Stopped,
    /// The runner was requested to leave.
    Drained,
    /// Only a new process can recover.
    Unrecoverable(Fault),
}

/// Registers the runner as faulty until its self-test passes.
pub(crate) async fn recover(runner: &mut Runner, fault: Fault) -> Recovery {
    let _faulty = runner.metrics.faulty();
    runner.epoch = epoch_after(runner.epoch);
    let heartbeats = Heartbeats::start(&runner.context, &runner.id, runner.epoch);
    let recovery = repeat_self_test(runner, fault, &heartbeats.draining).await;
    match recovery {
        Recovery::Healthy => {
            tracing::info!(runner = %runner.id, "self-test passed: joining again");
        }
        // A healthy runner joins again, which replaces this registration.
        Recovery::Stopped | Recovery::Unrecoverable(_) => unregister(runner).await,
        Recovery::Drained => {
            tracing::info!(runner = %runner.id, "drained on request: the faulty runner left");
            unregister(runner).await;
        }
    }
    drop(heartbeats);
    recovery
}

/// Repeats the self-test until it passes, or `draining` is cancelled.
async fn repeat_self_test(
    runner: &mut Runner,
    fault: Fault,
    draining: &CancellationToken,
) -> Recovery {
    let stop = runner.context.stop.clone();
    let mut report = FaultReport {
        kind: fault.kind,
        details: fault.details,
        since_ms: unix_ms(),
    };
    let mut delays = Delays::self_test();
    let mut listed = None;
    loop {
        let reason = format!("{}: {}", report.kind, report.details);
        if listed.as_ref() != Some(&reason) || !is_registered(runner).await {
            tracing::warn!(
                runner = %runner.id, reason,
                "the runner is faulty and takes no jobs until its self-test passes"
            );
            register(runner, &report).await;
            listed = Some(reason);
        }
        tokio::select! {
            () = stop.cancelled() => return Recovery::Stopped,
            () = draining.cancelled() => return Recovery::Drained,
            () = tokio::time::sleep(delays.next_delay()) => {}
            () = runner.engine.recovered() => {}
        }
        match self_test(runner).await {
            Ok(()) => return Recovery::Healthy,
            Err(fault) if fault.is_unrecoverable() => return Recovery::Unrecoverable(fault),
            Err(fault) => (report.kind, report.details) = (fault.kind, fault.details),
        }
    }
}

async fn is_registered(runner: &Runner) -> bool {
    let heartbeat = send_heartbeat(&runner.context, &runner.id, runner.epoch);
    heartbeat.await.is_some()
}

/// Registers as faulty. Failures are logged; the next round retries.
async fn register(runner: &Runner, report: &FaultReport) {
    let (context, description) = (&runner.context, &runner.engine.description);
    let nothing = RunnerReport::default();
    let registration = registration(context, &runner.id, runner.epoch, description, &nothing);
    let registered = async {
        await_name(context, &registration).await?;
        let (schema, lease) = (&description.input_schema, context.intervals.lease);
        let registered = (context.store.faults()).register(&registration, schema, lease, report);
        Ok::<_, crate::incarnation::Error>(registered.await?)
    };
    if let Err(error) = registered.await {
        tracing::warn!(runner = %runner.id, %error, "could not register the faulty runner");
    }
}

async fn unregister(runner: &Runner) {
    let (store, app) = (&runner.context.store, &runner.context.config.app);
    if let Err(error) = store
        .membership()
        .leave(app, &runner.id, runner.epoch)
        .await
    {
        tracing::warn!(
            runner = %runner.id, %error,
            "could not unregister the runner: its lease will lapse"
        );
    }
}

/// Sends a faulty runner's heartbeats until dropped, however long its self-test takes.
struct Heartbeats {
    task: JoinHandle<()>,
    /// Cancelled once the runner drains.
    draining: CancellationToken,
}

impl Heartbeats {
    fn start(context: &WorkerContext, runner: &RunnerId, epoch: Epoch) -> Self {
        let (context, runner) = (context.clone(), runner.clone());
        let draining = CancellationToken::new();
        let drains = draining.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(context.intervals.heartbeat);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let heartbeat = send_heartbeat(&context, &runner, epoch).await;
                if heartbeat.is_some_and(|heartbeat| heartbeat.is_draining) {
                    drains.cancel();
                }
            }
        });
        Self { task, draining }
    }
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends a heartbeat as busy, so that the runner does not become claimable. Returns `None` if it is
/// not registered, or Redis is unreachable.
async fn send_heartbeat(
    context: &WorkerContext,
    runner: &RunnerId,
    epoch: Epoch,
) -> Option<Heartbeat> {
    let WorkerContext {
        store,
        config,
        intervals,
        ..
    } = context;
    let alive = store
        .membership()
        .heartbeat(&config.app, runner, epoch, intervals.lease, true);
    alive.await.ok().flatten()
}
