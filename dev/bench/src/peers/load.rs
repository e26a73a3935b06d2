//! Loads: a burst, or arrivals at given times.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp};
use tokio::sync::mpsc::{Receiver, channel};

/// Delay of the first arrival, for drivers to prepare.
const LEAD: Duration = Duration::from_millis(100);

/// What a driver submits.
#[derive(Debug, Clone)]
pub enum Load {
    /// Jobs that are submitted as fast as the system accepts them.
    Burst(usize),
    /// Offsets at which jobs are submitted, whether or not earlier ones have ended, in order.
    Arrivals(Vec<Duration>),
}

impl Load {
    /// Returns Poisson arrivals: as many as `rate` per second makes on average in `time`. The same
    /// seed gives the same arrivals.
    ///
    /// # Errors
    /// The rate is not positive.
    pub fn poisson(rate: f64, time: Duration, seed: u64) -> anyhow::Result<Self> {
        let gap_s = Exp::new(rate)?;
        let jobs = (rate * time.as_secs_f64()).round() as usize;
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let offsets = gap_s.sample_iter(rng).take(jobs).scan(0.0, |at_s, gap_s| {
            *at_s += gap_s;
            Some(Duration::from_secs_f64(*at_s))
        });
        Ok(Self::Arrivals(offsets.collect()))
    }

    /// Returns the number of jobs.
    pub fn jobs(&self) -> usize {
        match self {
            Self::Burst(jobs) => *jobs,
            Self::Arrivals(offsets) => offsets.len(),
        }
    }

    /// Returns the intended time of a job's submission, µs after the begin of the load.
    pub fn intended_us(&self, number: usize) -> u64 {
        match self {
            Self::Burst(_) => 0,
            Self::Arrivals(offsets) => micros(offsets[number]),
        }
    }
}

/// Returns the Unix time, µs.
pub fn unix_us() -> u64 {
    micros(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The jobs of a load, each at its time.
pub struct Pacer {
    /// Begin of the load, Unix µs.
    pub begun_us: u64,
    due: Receiver<usize>,
}

impl Pacer {
    /// Starts a load. Arrivals begin soon, not now.
    pub fn start(load: &Load) -> Self {
        // Room for all jobs, so that none waits for a slow driver.
        let (send, due) = channel(load.jobs().max(1));
        let begun_us = match load {
            Load::Burst(jobs) => {
                for number in 0..*jobs {
                    let _ = send.try_send(number);
                }
                unix_us()
            }
            Load::Arrivals(offsets) => {
                let (begin, begun_us) = (Instant::now() + LEAD, unix_us() + micros(LEAD));
                let offsets = offsets.clone();
                // In a thread of its own, since tokio's timers have whole milliseconds.
                std::thread::spawn(move || {
                    for (number, offset) in offsets.into_iter().enumerate() {
                        let due = begin + offset;
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        if send.try_send(number).is_err() {
                            break;
                        }
                    }
                });
                begun_us
            }
        };
        Self { begun_us, due }
    }

    /// Returns the number of the next job once it is due; `None` after the last one.
    pub async fn next(&mut self) -> Option<usize> {
        self.due.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(rate: f64, seconds: u64, seed: u64) -> Vec<Duration> {
        match Load::poisson(rate, Duration::from_secs(seconds), seed).unwrap() {
            Load::Arrivals(offsets) => offsets,
            Load::Burst(_) => Vec::new(),
        }
    }

    #[test]
    fn arrivals_have_the_rate_and_are_the_same_for_the_same_seed() {
        let arrivals = offsets(100.0, 100, 1);
        assert_eq!(arrivals.len(), 10_000);
        assert!(arrivals.is_sorted());
        let lasted_s = arrivals.last().unwrap().as_secs_f64();
        assert!((97.0..103.0).contains(&lasted_s), "{lasted_s}");
        assert_eq!(arrivals, offsets(100.0, 100, 1));
        assert_ne!(arrivals, offsets(100.0, 100, 2));
    }

    #[test]
    fn gaps_between_arrivals_are_exponential() {
        let arrivals = offsets(100.0, 100, 1);
        let gaps = arrivals.windows(2).map(|pair| pair[1] - pair[0]);
        let short = gaps.filter(|gap| *gap < Duration::from_millis(10)).count();
        let part = short as f64 / arrivals.len() as f64;
        // 1 - 1/e of the gaps are below their mean.
        assert!((0.61..0.65).contains(&part), "{part}");
    }

    #[tokio::test]
    async fn jobs_are_due_in_order_and_not_before_their_time() {
        let load = Load::Arrivals([0, 3, 5].map(Duration::from_millis).into());
        let mut pacer = Pacer::start(&load);
        for number in 0..load.jobs() {
            assert_eq!(pacer.next().await, Some(number));
            assert!(unix_us() >= pacer.begun_us + load.intended_us(number));
        }
        assert_eq!(pacer.next().await, None);
    }
}
