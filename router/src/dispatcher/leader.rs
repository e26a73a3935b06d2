//! Leadership of an app: a lease in Redis. Behind it stands the broker's single active consumer, so that even two
//! routers which both believe to lead never dispatch the same job side by side.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use warmq_process::retry;
use warmq_types::policy_name::PolicyName;

use super::{Dispatcher, immediate, maintenance, warm, without_redis};
use crate::session_error::SessionError;

/// How long leadership lasts unless renewed.
pub(super) const LEADER_LEASE: Duration = Duration::from_secs(5);

/// How often the leader renews.
const RENEWAL_INTERVAL: Duration = Duration::from_millis(1500);

/// How often a follower tries, and so how long after a lapsed lease the next reign begins at the latest.
const BID_INTERVAL: Duration = Duration::from_millis(500);

/// Leads whenever nobody else does, until `shutdown`.
pub(super) async fn follow(dispatcher: Dispatcher, shutdown: CancellationToken) {
    let mut leadership: Option<Leadership> = None;
    let mut answered = Instant::now();
    loop {
        if leadership.as_ref().is_some_and(Leadership::has_ended) {
            // Its task panicked: a lease that is renewed all the same would keep the app from every router.
            end(&mut leadership).await;
            stop_leading(&dispatcher).await;
            tokio::time::sleep(BID_INTERVAL).await;
        }
        let leads = (dispatcher.elections)
            .lead(&dispatcher.app, &dispatcher.name)
            .await;
        match (&leads, &leadership) {
            (Ok(true), None) => {
                tracing::info!(app = %dispatcher.app, "leads the dispatching of an app");
                leadership = Some(Leadership::begin(&dispatcher, &shutdown));
            }
            (Ok(false), Some(_)) => {
                tracing::warn!(app = %dispatcher.app, "another router leads now");
                end(&mut leadership).await;
            }
            // Redis is away: keep dispatching, since the single active consumer still fences us.
            (Err(error), Some(_)) => {
                tracing::warn!(%error, "the leader lease can not be renewed");
            }
            // Nobody can be elected, and whoever led may be dead: the single active consumer chooses.
            (Err(error), None) if answered.elapsed() > LEADER_LEASE => {
                tracing::warn!(app = %dispatcher.app, %error, "dispatches without being elected");
                leadership = Some(Leadership::begin(&dispatcher, &shutdown));
            }
            (Err(error), None) => tracing::debug!(%error, "nobody can be elected now"),
            (Ok(true), Some(_)) | (Ok(false), None) => {}
        }
        if leads.is_ok() {
            answered = Instant::now();
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(if leadership.is_some() { RENEWAL_INTERVAL } else { BID_INTERVAL }) => {}
        }
    }
    end(&mut leadership).await;
    stop_leading(&dispatcher).await;
}

async fn stop_leading(dispatcher: &Dispatcher) {
    let Dispatcher {
        shared, app, name, ..
    } = dispatcher;
    if let Err(error) = shared.store.leadership().release(app, name).await {
        tracing::debug!(%error, "the leader lease stays until it lapses");
    }
}

/// The time for which a dispatcher leads.
struct Leadership {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Leadership {
    fn begin(dispatcher: &Dispatcher, shutdown: &CancellationToken) -> Self {
        let stop = shutdown.child_token();
        let (dispatcher, until) = (dispatcher.clone(), stop.clone());
        Self::of(stop, async move {
            // It looks at `until` itself: what is on its way then is brought to its end.
            retry::until_known("dispatching", &until, || dispatch(&dispatcher, &until)).await;
        })
    }

    fn of(stop: CancellationToken, dispatching: impl Future<Output = ()> + Send + 'static) -> Self {
        let task = tokio::spawn(dispatching);
        Self { stop, task }
    }

    /// Its task ended, though nobody stopped it.
    fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

/// Dispatches until `stop`, session after session: by the app's policy, or without one while Redis is away. A session ends
/// when the app's settings change: the next one has the new ones.
async fn dispatch(dispatcher: &Dispatcher, stop: &CancellationToken) -> Result<(), SessionError> {
    let Dispatcher { shared, app, .. } = dispatcher;
    while !stop.is_cancelled() {
        let session = dispatcher.session().await?;
        let config = shared.apps.config(app);
        let until = stop.child_token();
        let dispatching = async {
            if let Err(reason) = shared.store.check().requirements().await {
                return without_redis::run(dispatcher, &session, &until, &reason).await;
            }
            let placing = async {
                match config.policy {
                    PolicyName::Warm => warm::run(dispatcher, &session, &until).await,
                    PolicyName::Fal => immediate::run(dispatcher, &session, &until).await,
                }
            };
            // Beside it, so that jobs never wait for what is looked after.
            tokio::select! {
                ended = placing => ended,
                Err(broken) = maintenance::run(dispatcher, &session) => Err(broken),
            }
        };
        let superseded = async {
            shared.apps.differs(app, &config).await;
            tracing::info!(%app, "dispatches by new settings");
            until.cancel();
            std::future::pending().await
        };
        let ended = tokio::select! {
            ended = dispatching => ended,
            () = superseded => Ok(()),
        };
        session.close().await;
        ended.inspect_err(|broken| shared.limits.note(broken))?;
    }
    Ok(())
}

async fn end(leadership: &mut Option<Leadership>) {
    if let Some(Leadership { stop, task }) = leadership.take() {
        stop.cancel();
        if let Err(error) = task.await {
            tracing::error!(%error, "a dispatcher panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_leadership_whose_task_panicked_has_ended() {
        let steady = Leadership::of(CancellationToken::new(), std::future::pending());
        let broken = Leadership::of(CancellationToken::new(), async {
            std::panic::panic_any("a test said so")
        });
        while !broken.has_ended() {
            tokio::task::yield_now().await;
        }
        assert!(!steady.has_ended());
        end(&mut Some(broken)).await;
    }
}
