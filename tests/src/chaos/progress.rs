//! The progress bar of a run, on standard error if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;

const DRAW_INTERVAL: Duration = Duration::from_millis(250);

/// Submitted and ended jobs of one run.
#[derive(Clone)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Makes the bar of the run called `name`.
    pub fn new(name: &str) -> Self {
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} ended, {msg}");
        let bar = ProgressBar::new(0)
            .with_prefix(name.to_owned())
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// Shows the counts of a ledger, until `stop`.
    pub async fn follow(self, ledger: Ledger, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let (submissions, answered, ended) = ledger.counts();
            self.0.set_length(submissions as u64);
            self.0.set_position(ended as u64);
            self.0.set_message(format!("{answered} submitted"));
            tokio::time::sleep(DRAW_INTERVAL).await;
        }
        self.0.finish_and_clear();
    }
}
