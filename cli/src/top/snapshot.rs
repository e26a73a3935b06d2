//! What `warmq top` shows at one moment.

use serde::Serialize;
use warmq_types::http::App;
use warmq_types::ids::AppId;
use warmq_types::job::JobSummary;
use warmq_types::runner::RunnerRecord;
use warmq_types::state::JobState;

use crate::client::{Client, Error, JobQuery};
use crate::time;

/// Maximum number of jobs that are read of each kind.
const MAX_JOBS: usize = 100;

/// The router's state at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Time of the read by this machine's clock, Unix ms.
    pub at_ms: u64,
    /// The apps with their queues.
    pub apps: Vec<App>,
    /// The live runners.
    pub runners: Vec<RunnerRecord>,
    /// The newest running jobs.
    pub running: Vec<JobSummary>,
    /// The newest ended jobs.
    pub ended: Vec<JobSummary>,
}

impl Snapshot {
    /// Reads the state, of one app or of all.
    ///
    /// # Errors
    /// The router is unreachable, or the key lacks scope `watch` or `read`.
    pub async fn read(client: &Client, app: Option<&AppId>) -> Result<Self, Error> {
        let running = JobQuery {
            states: vec![JobState::Running],
            app: app.cloned(),
            limit: Some(MAX_JOBS),
            ..JobQuery::default()
        };
        let ended = JobQuery {
            states: ENDED.to_vec(),
            ..running.clone()
        };
        let (apps, runners, running, ended) = tokio::try_join!(
            client.apps(),
            client.runners(app),
            client.jobs(&running),
            client.jobs(&ended),
        )?;
        let is_shown = |shown: &App| app.is_none_or(|app| *app == shown.app);
        Ok(Self {
            at_ms: time::now_ms(),
            apps: apps.into_iter().filter(is_shown).collect(),
            runners,
            running: running.jobs,
            ended: ended.jobs,
        })
    }
}

/// The final states.
const ENDED: [JobState; 4] = [
    JobState::Succeeded,
    JobState::Failed,
    JobState::Cancelled,
    JobState::Expired,
];
