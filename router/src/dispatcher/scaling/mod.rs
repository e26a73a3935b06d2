//! The number of an app's runners, for apps with `max`: decides it every second, drains the surplus
//! and calls the hook that starts runners.
//!
//! | module | what it does |
//! | --- | --- |
//! | this one | observes the work, decides by [`warmq_policy::scaling`], shows the wanted number |
//! | `surplus` | drains the least useful runners |
//! | `hook_calls` | decides when the hook is called |
//! | `hook` | one call of the hook |
//!
//! The router ends runners, by draining them; the hook starts them. Without a hook, as where KEDA
//! follows the metric, runners are not drained either.

mod hook;
mod hook_calls;
mod surplus;

use std::future::pending;

use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use warmq_config::ScalingConfig;
use warmq_policy::scaling::{Scaler, ScalingRule, Workload};
use warmq_store::Counts;
use warmq_types::scaling::ScalingState;

use super::Dispatcher;
use super::session::{Session, TICK_INTERVAL, ticks};
use crate::metrics::CountGauge;
use crate::session_error::SessionError;
use hook_calls::{HookCalls, Target};

/// Interval at which an unchanged state is recorded again: well below its lifetime in Redis.
const RECORD_INTERVAL: Duration = Duration::from_secs(30);

/// Scales the app until a server fails; returns at once if it is not scaled.
pub(super) async fn run(dispatcher: &Dispatcher, session: &Session) -> Result<(), SessionError> {
    let Dispatcher {
        shared,
        app,
        metrics,
        ..
    } = dispatcher;
    let Some(config) = shared.apps.config(app).scaling else {
        return Ok(());
    };
    let (targets, target) = watch::channel(Target::default());
    let (errors, error) = watch::channel(None);
    let scaling = Scaling {
        dispatcher,
        session,
        scaler: Scaler::new(rule(config)),
        shown: metrics.wanted_runners(),
        targets,
        hook_error: error,
        recorded: None,
    };
    let calls = async {
        match &shared.scale_hook {
            Some(hook) => {
                let calls = HookCalls {
                    hook,
                    app,
                    metrics,
                    errors,
                };
                calls.run(target).await
            }
            None => pending().await,
        }
    };
    tokio::select! {
        ended = scaling.run() => ended,
        () = calls => Ok(()),
    }
}

struct Scaling<'a> {
    dispatcher: &'a Dispatcher,
    session: &'a Session,
    scaler: Scaler,
    shown: CountGauge,
    /// Read by the calls of the hook.
    targets: watch::Sender<Target>,
    /// Error of the hook's last call.
    hook_error: watch::Receiver<Option<String>>,
    /// The recorded state, and when it was recorded.
    recorded: Option<(ScalingState, Instant)>,
}

impl Scaling<'_> {
    async fn run(mut self) -> Result<(), SessionError> {
        let Dispatcher { shared, app, .. } = self.dispatcher;
        let begin = Instant::now();
        let mut tick = ticks(TICK_INTERVAL);
        loop {
            tick.tick().await;
            let counts = shared.store.runners().counts(app).await?;
            let workload = self.workload(counts);
            let wanted = self.scaler.wanted(begin.elapsed().as_secs_f64(), workload);
            self.shown.show(wanted);
            let target = Target {
                wanted,
                runners: workload.runners,
                draining: number(counts.draining),
            };
            let changed = self.targets.send_if_modified(|before| {
                let changed = *before != target;
                *before = target;
                changed
            });
            if changed {
                tracing::debug!(%app, wanted, ?workload, "the app's number of runners");
            }
            if shared.scale_hook.is_some() && workload.runners + workload.faulty > wanted {
                surplus::drain(self.dispatcher, wanted).await?;
            }
            self.record(wanted).await?;
        }
    }

    fn workload(&self, counts: Counts) -> Workload {
        let waiting_jobs = number(counts.queued);
        Workload {
            waiting_jobs,
            pending_s: self.session.reports.held_work().of_waiting(waiting_jobs),
            runners: number(counts.healthy()),
            idle: number(counts.idle),
            faulty: number(counts.faulty),
        }
    }

    /// Records the state for `/v1/apps/{owner}/{app}`, if it changed or the record is old.
    async fn record(&mut self, wanted: usize) -> Result<(), SessionError> {
        let state = ScalingState {
            wanted: wanted as u64,
            hook_error: self.hook_error.borrow().clone(),
        };
        let is_recorded = (self.recorded.as_ref())
            .is_some_and(|(last, at)| *last == state && at.elapsed() < RECORD_INTERVAL);
        if !is_recorded {
            let Dispatcher { shared, app, .. } = self.dispatcher;
            shared.store.scaling().record(app, &state).await?;
            self.recorded = Some((state, Instant::now()));
        }
        Ok(())
    }
}

fn number(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn rule(config: ScalingConfig) -> ScalingRule {
    ScalingRule {
        min: number(config.min.into()),
        max: number(config.max.into()),
        keep_alive_s: config.keep_alive.as_secs_f64(),
        target_s: config.target.as_secs_f64(),
    }
}
