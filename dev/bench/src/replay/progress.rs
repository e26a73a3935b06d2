//! Progress of a replay, on stderr.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;
use warmq_store::Store;
use warmq_types::ids::AppId;

/// Interval at which the fleet is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Timeout for the next end of a job; after it the run counts as stalled.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Jobs submitted and ended.
pub struct Progress {
    ended: ProgressBar,
    submitted: ProgressBar,
}

impl Progress {
    /// Creates the progress of a run of `jobs` jobs. Hidden unless stderr is a terminal.
    pub fn new(name: &str, jobs: usize) -> Self {
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} ended, {msg}");
        let ended = ProgressBar::new(jobs as u64)
            .with_prefix(name.to_owned())
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self {
            ended,
            submitted: ProgressBar::hidden(),
        }
    }

    /// Counts a submitted job.
    pub fn submitted(&self) {
        self.submitted.inc(1);
    }

    /// Shows the progress until it is dropped.
    ///
    /// # Errors
    /// Redis is unreachable, or the run stalls.
    pub async fn follow(&self, store: &Store, app: &AppId) -> anyhow::Result<Infallible> {
        let mut looks = tokio::time::interval(POLL_INTERVAL);
        let mut changed = Instant::now();
        loop {
            looks.tick().await;
            let submitted = self.submitted.position();
            let waiting = store.jobs().queue_length(app).await?;
            let runners = store.runners().list(app).await?;
            let running = runners.iter().filter(|runner| runner.job.is_some()).count() as u64;
            let ended = submitted.saturating_sub(waiting + running);
            if ended != self.ended.position() || submitted == ended {
                changed = Instant::now();
            }
            self.ended.set_position(ended);
            self.ended.set_message(format!(
                "{running} running, {waiting} waiting, {submitted} submitted"
            ));
            if changed.elapsed() > STALL_TIMEOUT {
                bail!(
                    "no job ended for {} s, and {waiting} wait",
                    STALL_TIMEOUT.as_secs()
                );
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ended.finish_and_clear();
    }
}
