//! Submissions to each target in turn, one at a time, with some flows under way beside them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::try_join;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tokio::time::sleep;
use warmq_types::ids::JobId;

use super::gaps::{self, Gaps};
use super::records;
use super::stand::Stand;
use super::targets::{Target, input};
use super::times::Times;
use super::under_way::Load;

/// How often it is looked whether the job that was submitted last has ended.
const LOOK: Duration = Duration::from_millis(5);

/// How long the jobs run that are submitted one at a time, ms.
const RUN_MS: u64 = 5;

/// The submissions and steps that were measured with some flows under way.
pub struct Course {
    /// The flows under way.
    pub flows: Load,
    /// How long the door took, by target.
    pub answered: BTreeMap<Target, Times>,
    /// How long jobs that were submitted to their app waited for their start.
    pub sent: Times,
    /// What lay between the steps: of the flows under way, or of the sequences submitted one at a time if there were none.
    pub gaps: Gaps,
    /// For how long was measured.
    pub lasted: Duration,
    /// Who submitted so far: each is another user.
    users: u64,
    order: ChaCha8Rng,
}

impl Course {
    /// One that has not begun.
    pub fn new(flows: Load) -> Self {
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
    ///
    /// # Errors
    /// A server is away, or a job fails.
    pub async fn go_on(&mut self, stand: &Stand, stretch: Duration) -> anyhow::Result<()> {
        let begin = self.flows.lasts();
        let until = Instant::now() + begin + stretch;
        let under_way = self.flows.of_flows(stand, until);
        let one_at_a_time = async {
            sleep(begin).await;
            let from_ms = stand.store().now_ms().await?;
            let sequences = self.submit_one_at_a_time(stand, until).await?;
            anyhow::Ok((from_ms..stand.store().now_ms().await?, sequences))
        };
        let (under_way, measured) = try_join(under_way, one_at_a_time).await?;
        let (within, one_at_a_time) = measured;
        self.lasted += Duration::from_millis(within.end - within.start);
        let flows = match self.flows.count {
            0 => one_at_a_time,
            _ => under_way,
        };
        for id in flows {
            let flow = records::once_ended(stand.store(), id, LOOK).await?;
            let jobs = gaps::jobs_of(stand.store(), &flow).await?;
            self.gaps.add(&flow, &jobs, &within);
        }
        Ok(())
    }

    /// To each target once, in an order that is drawn, again and again. Returns the sequences.
    async fn submit_one_at_a_time(
        &mut self,
        stand: &Stand,
        until: Instant,
    ) -> anyhow::Result<Vec<JobId>> {
        let mut sequences = Vec::new();
        while Instant::now() < until {
            let mut targets = Target::ALL;
            targets.shuffle(&mut self.order);
            for target in targets {
                self.users += 1;
                let input = input(RUN_MS, self.users);
                let (id, took) = stand.door().submit(target.name(), &input).await?;
                let times = self.answered.entry(target).or_default();
                times.push(took.as_secs_f64() * 1000.0);
                let job = records::once_ended(stand.store(), id, LOOK).await?;
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
