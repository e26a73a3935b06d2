//! Redis: records of jobs and runners. Every transition is one atomic script.
//!
//! | module | contents |
//! | --- | --- |
//! | `connected` | what the handles of one store share |
//! | `keys` | all keys; no other file spells one |
//! | `lua/`, `scripts`, `script_reply` | one file per atomic change, and its replies |
//! | `jobs`, `record` | records of jobs; parsing a hash into a record |
//! | `job_list` | lists of jobs, newest first |
//! | `active_jobs_per_key` | active jobs of each API key, for its quota |
//! | `route_choices` | routes' choices for repeated submissions |
//! | `placement`, `attempts` | placement of waiting jobs; start, lease, end and loss of attempts |
//! | `flows` | flows and the times of their next evaluation |
//! | `log` | logs of jobs |
//! | `outage_attempts` | attempts that began or ended during an outage of Redis |
//! | `cancellation`, `deadlines` | cancellation, expiry |
//! | `job_ids` | channels of cancelled and of ended jobs |
//! | `outbox`, `replies`, `webhook_deliveries` | events, replies and webhooks to send |
//! | `faults` | runners that take no jobs; workers with equal names |
//! | `membership`, `runners` | registration, heartbeats and removal of runners; lists of them |
//! | `published` | models and input schemas that workers publish |
//! | `idle_runners`, `runner_feed` | idle runners by model; events of runners |
//! | `api_keys` | API keys and their rates |
//! | `secrets` | shared secrets for signatures |
//! | `sessions` | logins of browsers |
//! | `leadership`, `stats`, `maintenance` | leader leases, statistics, lost jobs |
//! | `scaling` | the wanted number of runners |
//! | `file_retention` | files that must not be deleted |
//! | `history`, `waiting` | ends per minute; overviews of waiting and running jobs |
//! | `usage` | what ended jobs used, per day, key and app |
//! | `apps_in_use` | apps in use; removal of others |
//! | `protocol` | protocol versions of live routers and workers |
//! | `server_check`, `refusal` | requirements of the server; remedies for its errors |
//! | `subscriptions` | pub/sub channels over one connection |
//!
//! All keys of one app have the hash tag `{app}`, and a script touches one app and the job list,
//! except `take_leadership.lua`, and `create.lua`, which sets the entry that finds the app of an
//! id. The job list and reads over many apps need one server, so Redis Cluster is refused. Times
//! are those of Redis' clock (Unix ms): hosts need not agree.
//!
//! Every call that asks Redis fails if it is unreachable; `# Errors` names further reasons.

mod active_jobs_per_key;
mod api_keys;
mod apps_in_use;
mod attempts;
mod cancellation;
mod connected;
mod deadlines;
mod error;
mod faults;
mod file_retention;
mod flows;
mod history;
mod idle_runners;
mod job_ids;
mod job_list;
mod jobs;
mod keys;
mod leadership;
mod log;
mod maintenance;
mod membership;
mod model_changes;
mod outage_attempts;
mod outbox;
mod overflow_queues;
mod placement;
mod protocol;
mod published;
mod record;
mod refusal;
mod replies;
mod route_choices;
mod runner_feed;
mod runners;
mod scaling;
mod script_reply;
mod scripts;
mod secrets;
mod server_check;
mod sessions;
mod stats;
mod subscriptions;
mod usage;
mod waiting;
mod webhook_deliveries;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionManagerConfig;

pub use api_keys::{KeyCreation, KeyRevocation};
pub use attempts::{Finish, Finished, Loss, RequeueCause, Start, StartSource};
pub use cancellation::CancelOutcome;
pub use error::Error;
pub use faults::{FaultReport, NameConflict};
pub use flows::{FlowLine, FlowPlan, FlowState, FlowUpdate};
pub use history::{HISTORY_MINUTES, MinuteCounts};
pub use job_ids::JobIds;
pub use job_list::{Before, JobFilter, JobPage, NotACursor};
pub use jobs::{AdmissionRules, Created, JobHead};
pub use log::{JobSnapshot, LogLine};
pub use maintenance::{QueueDepths, QueuedCursor};
pub use membership::{Heartbeat, Registration, RunnerReport, SharedQueueConsumer};
pub use outage_attempts::OutageStart;
pub use placement::{Claim, Unavailable};
pub use refusal::Refusal;
pub use runner_feed::{FreeRunner, Ran, RunnerAvailability, RunnerEvent, RunnerEvents};
pub use runners::{AppLoad, Counts};
pub use secrets::Secret;
pub use usage::USAGE_DAYS;
pub use waiting::{HeldJob, RunningJob, WaitingJob};
pub use webhook_deliveries::{AfterAttempt, AttemptSlot, WebhookDelivery};

use connected::Connected;
use keys::Keys;
use outbox::Removals;
use scripts::Scripts;
use subscriptions::Subscriptions;
use warmq_process::tls;
use warmq_types::ids::Namespace;
use warmq_types::server_url::ServerUrl;

/// A cheap handle to one namespace of one Redis. It reconnects by itself; calls fail meanwhile.
#[derive(Clone)]
pub struct Store(Arc<Connected>);

impl Deref for Store {
    type Target = Connected;
    fn deref(&self) -> &Connected {
        &self.0
    }
}

/// Declares the parts of the store: handles that borrow it, each with the methods of one module.
macro_rules! parts {
    ($($(#[$doc:meta])* $accessor:ident: $Part:ident,)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy)]
            pub struct $Part<'a>(&'a Store);

            impl Deref for $Part<'_> {
                type Target = Store;
                fn deref(&self) -> &Store {
                    self.0
                }
            }
        )*

        impl Store {
            $(
                $(#[$doc])*
                pub fn $accessor(&self) -> $Part<'_> {
                    $Part(self)
                }
            )*
        }
    };
}

parts! {
    /// Records of jobs: creation, removal, lookup.
    jobs: Jobs,
    /// Lists of jobs, newest first.
    job_list: JobList,
    /// Logs of jobs, and the fields that change while they wait and run.
    log: JobLog,
    /// Active jobs per owner.
    active_jobs: ActiveJobs,
    /// Holds, claims, and moves to the shared queue.
    placement: Placement,
    /// Start, lease, end and loss of attempts.
    attempts: Attempts,
    /// Attempts that began or ended during an outage of Redis.
    outage_attempts: OutageAttempts,
    /// Cancellation of jobs.
    cancellation: Cancellation,
    /// Expiry of jobs that have not started in time.
    deadlines: Deadlines,
    /// Ended jobs whose event may not be published yet.
    outbox: Outbox,
    /// Reply addresses, and which replies were sent.
    replies: Replies,
    /// State of webhook deliveries.
    webhook_deliveries: WebhookDeliveries,
    /// Flows, and the times of their next evaluation.
    flows: Flows,
    /// Choices of routes for repeated submissions.
    route_choices: RouteChoices,
    /// Files that must not be deleted, and the turns of their cleanup.
    file_retention: FileRetention,
    /// Registration, heartbeats, reports and removal of runners.
    membership: Membership,
    /// Lists of live runners, and the load of apps.
    runners: Runners,
    /// What workers publish about their apps.
    published: Published,
    /// Runners that take no jobs, and runners with equal names.
    faults: Faults,
    /// Changes of runners' models on request.
    model_changes: ModelChanges,
    /// Events and states of runners, for dispatchers.
    runner_feed: RunnerFeed,
    /// The idle runners that could take a job.
    idle_runners: IdleRunners,
    /// Leader leases of apps.
    leadership: Leadership,
    /// Jobs whose message may be lost, and remains of lost runners.
    maintenance: Maintenance,
    /// Apps in use.
    apps_in_use: AppsInUse,
    /// Overflow queues of apps.
    overflow_queues: OverflowQueues,
    /// Statistics of an app's models.
    stats: Stats,
    /// How apps are scaled.
    scaling: Scaling,
    /// Ends of jobs and their waits, per minute.
    history: History,
    /// What ended jobs used.
    usage: Usage,
    /// Overviews of waiting and running jobs.
    waiting: Waiting,
    /// API keys and their rates.
    api_keys: ApiKeys,
    /// Logins of browsers.
    sessions: Sessions,
    /// Secrets that all routers share.
    secrets: Secrets,
    /// Protocol versions of live routers and workers.
    protocols: Protocols,
    /// Checks of the server.
    check: Check,
}

impl Store {
    /// Connects, and tries everything that warmq needs of Redis. A full server passes: ended jobs
    /// are readable, and it may be given room.
    ///
    /// # Errors
    /// Redis is unreachable within 5 s, or unusable.
    pub async fn connect(url: &ServerUrl, namespace: Namespace) -> Result<Self, Error> {
        tls::install_crypto_provider();
        let at = |error| Error::at(url, error);
        let client = redis::Client::open(url.expose()).map_err(at)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(Duration::from_secs(5)))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_secs(1));
        let connection = client
            .get_connection_manager_with_config(config)
            .await
            .map_err(at)?;
        let store = Self(Arc::new(Connected {
            removals: Removals::start(connection.clone()),
            connection,
            url: url.clone(),
            subscriptions: Subscriptions::new(client),
            keys: Keys::new(namespace),
            scripts: Scripts::load(),
        }));
        match store.check().requirements().await {
            Err(Error::Command(error)) => match Error::at(url, error) {
                Error::Refused {
                    refusal: refusal @ (Refusal::Full | Refusal::NoWrites(_)),
                    ..
                } => tracing::warn!(%url, "redis {refusal}"),
                error => return Err(error),
            },
            checked => checked?,
        }
        Ok(store)
    }

    /// Returns Redis' clock, Unix ms.
    pub async fn now_ms(&self) -> Result<u64, Error> {
        let (seconds, micros): (u64, u64) = redis::cmd("TIME")
            .query_async(&mut self.connection.clone())
            .await?;
        Ok(seconds * 1000 + micros / 1000)
    }

    /// Returns whether Redis answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), Error> {
        Ok(redis::cmd("PING")
            .query_async(&mut self.connection.clone())
            .await?)
    }
}

/// Number of jobs processed concurrently where a call finds many.
const SIDE_BY_SIDE: usize = 32;

/// Converts a duration to ms as scripts take it, at most what fits.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
