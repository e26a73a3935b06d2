//! Measures submissions to each target in turn, one at a time, with background flows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::try_join;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tokio::time::sleep;
use warmq_types::ids::JobId;

use super::background_load::BackgroundLoad;
use super::gaps::{self, Gaps};
use super::records;
use super::targets::{Target, input};
use super::testbed::RouteTestbed;
use super::times::Times;

/// Interval at which the last submitted job is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Run time of the jobs submitted one at a time, ms.
const RUN_MS: u64 = 5;

/// Submissions and steps measured with some background flows.
pub struct LatencyRun {
    /// The background flows.
    pub flows: BackgroundLoad,
    /// Response times of submissions, by target.
    pub answered: BTreeMap<Target, Times>,
    /// Times from record to start of jobs submitted to their app.
    pub sent: Times,
    /// Times between steps: of the background flows, or of the sequences submitted one at a time if
    /// there are none.
    pub gaps: Gaps,
    /// Measured time.
    pub lasted: Duration,
    /// Number of users so far: each submission has its own.
    users: u64,
    order: ChaCha8Rng,
}

impl LatencyRun {
    /// Creates an empty measurement.
    pub fn new(flows: BackgroundLoad) -> Self {
        Self {
            flows,
            answered: BTreeMap::new(),
            sent: Times::default(),
            gaps: Gaps::default(),
            lasted: Duration::ZERO,
            users: 0,
            order: ChaCha8Rng::seed_from_u64(1),
        }
    }

    /// Measures for a `stretch` of time.
    pub async fn measure(
        &mut self,
        testbed: &RouteTestbed,
        stretch: Duration,
    ) -> anyhow::Result<()> {
        let begin = self.flows.duration();
        let until = Instant::now() + begin + stretch;
        let background = self.flows.run_flows(testbed, until);
        let one_at_a_time = async {
            sleep(begin).await;
            let from_ms = testbed.store().now_ms().await?;
            let sequences = self.submit_one_at_a_time(testbed, until).await?;
            anyhow::Ok((from_ms..testbed.store().now_ms().await?, sequences))
        };
        let (background, measured) = try_join(background, one_at_a_time).await?;
        let (within, one_at_a_time) = measured;
        self.lasted += Duration::from_millis(within.end - within.start);
        let flows = match self.flows.count {
            0 => one_at_a_time,
            _ => background,
        };
        for id in flows {
            let flow = records::wait_for_end(testbed.store(), id, POLL_INTERVAL).await?;
            let jobs = gaps::jobs_of(testbed.store(), &flow).await?;
            self.gaps.add(&flow, &jobs, &within);
        }
        Ok(())
    }

    /// Submits to each target once, in random order, repeatedly. Returns the sequences.
    async fn submit_one_at_a_time(
        &mut self,
        testbed: &RouteTestbed,
        until: Instant,
    ) -> anyhow::Result<Vec<JobId>> {
        let mut sequences = Vec::new();
        while Instant::now() < until {
            let mut targets = Target::ALL;
            targets.shuffle(&mut self.order);
            for target in targets {
                self.users += 1;
                let input = input(RUN_MS, self.users);
                let (id, took) = testbed.client().submit(target.name(), &input).await?;
                let times = self.answered.entry(target).or_default();
                times.push(took.as_secs_f64() * 1000.0);
                let job = records::wait_for_end(testbed.store(), id, POLL_INTERVAL).await?;
                match target {
                    Target::Direct => self.sent.extend(gaps::sent_ms(&job)),
                    Target::Sequence => sequences.push(id),
                    _ => {}
                }
            }
        }
        Ok(sequences)
    }
}
