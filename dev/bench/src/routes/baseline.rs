//! The baseline of flows: clients that submit the steps themselves.

use std::time::{Duration, Instant};

use futures::future::try_join;
use tokio::time::sleep;

use super::background_load::BackgroundLoad;
use super::gaps::ms_between;
use super::records;
use super::testbed::RouteTestbed;
use super::times::Times;

/// Interval at which an ended job is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Measures of clients that submit their steps themselves.
pub struct BaselineRun {
    /// Number of clients, and run time of their steps.
    pub clients: BackgroundLoad,
    /// Times from the end of a step to the record of the next one.
    pub between: Times,
    /// Number of ended steps.
    pub steps: usize,
    /// Measured time.
    pub lasted: Duration,
}

impl BaselineRun {
    /// Creates an empty measurement.
    pub fn new(clients: BackgroundLoad) -> Self {
        Self {
            clients,
            between: Times::default(),
            steps: 0,
            lasted: Duration::ZERO,
        }
    }

    /// Measures for a `stretch` of time.
    pub async fn measure(
        &mut self,
        testbed: &RouteTestbed,
        stretch: Duration,
    ) -> anyhow::Result<()> {
        let begin = self.clients.duration();
        let until = Instant::now() + begin + stretch;
        let window = async {
            sleep(begin).await;
            let from_ms = testbed.store().now_ms().await?;
            sleep(stretch).await;
            Ok(from_ms..testbed.store().now_ms().await?)
        };
        let background = self.clients.run_clients(testbed, until);
        let (background, within) = try_join(background, window).await?;
        self.lasted += Duration::from_millis(within.end - within.start);
        for ids in background {
            let jobs = records::wait_for_ends(testbed.store(), &ids, POLL_INTERVAL).await?;
            let ended_ms = jobs.iter().map(|job| job.finished_ms);
            let ended_ms = ended_ms.map(|ms| ms.filter(|ms| within.contains(ms)));
            self.steps += ended_ms.clone().flatten().count();
            let next_ms = jobs.iter().skip(1).map(|job| job.spec.created_ms);
            let gaps = ended_ms.zip(next_ms);
            self.between.extend(
                gaps.filter_map(|(ended_ms, next_ms)| Some(ms_between(ended_ms?, next_ms))),
            );
        }
        Ok(())
    }
}
