//! Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2018): a model's jobs are
//! sent to the first runner after its point on the ring that has less than 1.25 times the average
//! load.

use super::Scheme;
use crate::simulator::{Job, SchemeContext};

/// Maximum load, in units of the average.
const BALANCE: f64 = 1.25;
/// Points of a runner on the ring.
const POINTS: u64 = 64;

pub struct HashScheme {
    /// Points and their runners, by point.
    ring: Vec<(u64, usize)>,
}

/// Spreads a number over 64 bits (the finaliser of splitmix64).
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl HashScheme {
    pub fn new(runners: usize) -> Self {
        let mut ring: Vec<(u64, usize)> = (0..runners)
            .flat_map(|runner| {
                (0..POINTS).map(move |point| (scatter((runner as u64) << 16 | point), runner))
            })
            .collect();
        ring.sort_unstable();
        Self { ring }
    }
}

impl Scheme for HashScheme {
    fn on_arrival(&mut self, job: &Job, context: &mut SchemeContext<'_>) {
        let runners = &context.fleet.runners;
        let up = runners.iter().filter(|runner| runner.up).count().max(1);
        let jobs: usize = runners.iter().map(|runner| runner.load()).sum();
        let most = (BALANCE * (jobs + 1) as f64 / up as f64).ceil() as usize;
        let start = self
            .ring
            .partition_point(|(point, _)| *point < scatter(!u64::from(job.model)));
        let around = self.ring[start..].iter().chain(&self.ring[..start]);
        let chosen = around
            .map(|(_, runner)| *runner)
            .find(|runner| runners[*runner].up && runners[*runner].load() < most);
        // If no runner is up, the job is sent to its first one, which rejects it.
        let fallback = self.ring.get(start).or(self.ring.first());
        if let Some(runner) = chosen.or(fallback.map(|(_, runner)| *runner)) {
            context.send(job.id, runner);
        }
    }
}
