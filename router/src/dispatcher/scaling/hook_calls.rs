//! When the hook is called: at each change of the wanted number, and again while the runners
//! differ from it, so that a hook needs no state. One call at a time.

use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use warmq_config::CommandLine;
use warmq_process::retry::Delays;
use warmq_types::ids::AppId;

use super::hook;
use crate::metrics::AppMetrics;

/// Interval between calls while the runners differ from the wanted number.
const REPEAT_INTERVAL: Duration = Duration::from_secs(10);

/// What the hook is called with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// Wanted number of runners.
    pub(super) wanted: usize,
    /// Number of runners that take jobs.
    pub(super) runners: usize,
    /// Number of further runners, which drain.
    pub(super) draining: usize,
}

/// The calls for one app during a session.
pub(super) struct HookCalls<'a> {
    pub(super) hook: &'a CommandLine,
    pub(super) app: &'a AppId,
    pub(super) metrics: &'a AppMetrics,
    /// Receives the error of the last call.
    pub(super) errors: watch::Sender<Option<String>>,
}

impl HookCalls<'_> {
    /// Calls the hook whenever that is due; never returns.
    pub(super) async fn run(self, mut targets: watch::Receiver<Target>) {
        let app = self.app;
        let mut delays = Delays::scale_hook();
        let mut succeeded = None;
        loop {
            let target = *targets.borrow_and_update();
            let due = next_call(succeeded, target, Instant::now());
            if due.is_none_or(|due| due > Instant::now()) {
                tokio::select! {
                    changed = targets.changed() => if changed.is_err() {
                        // The session ends.
                        return pending().await;
                    },
                    () = until(due) => {}
                }
                continue;
            }
            match hook::call(self.hook, app, target, hook::TIMEOUT).await {
                Ok(()) => {
                    tracing::info!(
                        %app, wanted = target.wanted, runners = target.runners,
                        "called the scale hook"
                    );
                    succeeded = Some((target.wanted, Instant::now()));
                    delays.reset();
                    self.errors.send_replace(None);
                }
                Err(error) => {
                    let delay = delays.next_delay();
                    tracing::warn!(
                        %app, wanted = target.wanted, %error,
                        retry_in_ms = delay.as_millis() as u64,
                        "the scale hook failed"
                    );
                    self.metrics.scale_hook_failed();
                    succeeded = None;
                    self.errors.send_replace(Some(error.to_string()));
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }
}

/// Returns when the next call is due, if it is without a change. `succeeded`: the wanted number of
/// the last call, and its end; `None` if there was none, or it failed.
fn next_call(succeeded: Option<(usize, Instant)>, target: Target, now: Instant) -> Option<Instant> {
    let is_reached = target.runners == target.wanted;
    match succeeded {
        Some((wanted, at)) if wanted == target.wanted => {
            (!is_reached).then(|| at + REPEAT_INTERVAL)
        }
        None if is_reached => None,
        _ => Some(now),
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_called_at_once_and_again_until_it_is_reached() {
        let now = Instant::now();
        let target = |wanted, runners| Target {
            wanted,
            runners,
            draining: 0,
        };
        assert_eq!(next_call(None, target(2, 2), now), None);
        assert_eq!(next_call(None, target(2, 1), now), Some(now));
        let two = Some((2, now));
        let later = Some(now + REPEAT_INTERVAL);
        assert_eq!(next_call(two, target(2, 0), now), later);
        assert_eq!(next_call(two, target(2, 1), now), later);
        assert_eq!(next_call(two, target(2, 2), now), None);
        assert_eq!(next_call(two, target(3, 2), now), Some(now));
        // The drained runner may have left already.
        assert_eq!(next_call(two, target(1, 1), now), Some(now));
    }
}
