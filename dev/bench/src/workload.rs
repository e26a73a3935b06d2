//! The arrivals of jobs. All randomness comes from one seeded generator, so that policies are
//! compared on the same jobs.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp, LogNormal, Zipf};

use crate::args::Options;
use crate::trace;

/// Standard deviation of run times over their mean.
const RUN_CV: f64 = 0.5;
/// Rates of the two states of `--mmpp`, in units of the mean rate.
const BURST_RATES: [f64; 2] = [1.7, 0.3];
/// Mean stay in each of them, s.
const BURST_STAY_S: f64 = 60.0;

/// A job that will arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planned {
    /// Arrival, s.
    pub at_s: f64,
    /// Model, a number below [`Workload::models`].
    pub model: u32,
    /// Its owner's number.
    pub owner: u32,
    /// Warm run time, s.
    pub run_s: f64,
}

/// Why a workload cannot be generated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] trace::Error),
    /// No distribution has these parameters.
    #[error("invalid parameters of the workload: {0}")]
    Parameters(String),
}

/// The stream of jobs.
#[derive(Debug)]
pub struct Workload {
    source: Source,
    left: usize,
    models: u32,
}

#[derive(Debug)]
enum Source {
    Drawn(Box<Drawn>),
    Trace(std::vec::IntoIter<Planned>),
}

impl Workload {
    /// Creates the workload of the options.
    ///
    /// # Errors
    /// The trace cannot be read, or a parameter is out of range.
    pub fn of(options: &Options) -> Result<Self, Error> {
        let rng = stream(options.seed, 0);
        match &options.trace {
            Some(path) => {
                let mut drawn = Drawn::new(options, rng)?;
                let (jobs, models) = trace::read(path, || drawn.run_s())?;
                Ok(Self::planned(jobs, models))
            }
            None => Ok(Self {
                left: options.jobs,
                source: Source::Drawn(Box::new(Drawn::new(options, rng)?)),
                models: options.models,
            }),
        }
    }

    /// Creates a workload of these jobs, in order of time, for models numbered from 0 to below
    /// `models`.
    pub fn planned(jobs: Vec<Planned>, models: u32) -> Self {
        Self {
            left: jobs.len(),
            source: Source::Trace(jobs.into_iter()),
            models,
        }
    }

    /// Returns the number of models.
    pub fn models(&self) -> u32 {
        self.models
    }

    /// Returns the number of jobs still to come.
    pub fn left(&self) -> usize {
        self.left
    }
}

impl Iterator for Workload {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        self.left = self.left.checked_sub(1)?;
        match &mut self.source {
            Source::Drawn(drawn) => Some(drawn.next()),
            Source::Trace(jobs) => jobs.next(),
        }
    }
}

#[derive(Debug)]
struct Drawn {
    rng: ChaCha8Rng,
    rate: f64,
    now_s: f64,
    run: LogNormal<f64>,
    rank: Zipf<f64>,
    /// The model of each rank.
    by_rank: Vec<u32>,
    drift_s: f64,
    next_drift_s: f64,
    bursts: bool,
    burst: usize,
    burst_ends_s: f64,
    batch: u32,
    batch_left: u32,
    batch_model: u32,
}

impl Drawn {
    fn new(options: &Options, rng: ChaCha8Rng) -> Result<Self, Error> {
        let invalid = |error: &dyn std::fmt::Display| Error::Parameters(error.to_string());
        // Lognormal, mean S, variance (cv S)^2: sigma^2 = ln(1 + cv^2), mu = ln S - sigma^2 / 2.
        let variance = (1.0 + RUN_CV * RUN_CV).ln();
        let mu = options.service_s.ln() - variance / 2.0;
        let drift_s = options.drift_s.unwrap_or(f64::INFINITY);
        Ok(Self {
            rng,
            rate: options.rho * f64::from(options.runners) / options.service_s,
            now_s: 0.0,
            run: LogNormal::new(mu, variance.sqrt()).map_err(|error| invalid(&error))?,
            rank: Zipf::new(f64::from(options.models), options.zipf)
                .map_err(|error| invalid(&error))?,
            by_rank: (0..options.models).collect(),
            drift_s,
            next_drift_s: drift_s,
            bursts: options.mmpp,
            burst: 0,
            burst_ends_s: 0.0,
            batch: options.batch,
            batch_left: 0,
            batch_model: 0,
        })
    }

    fn run_s(&mut self) -> f64 {
        self.run.sample(&mut self.rng)
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        Exp::new(1.0 / mean).map_or(mean, |law| law.sample(&mut self.rng))
    }

    /// Advances to the next arrival.
    fn advance(&mut self) {
        let gap_s = f64::from(self.batch) / self.rate;
        if !self.bursts {
            self.now_s += self.exponential(gap_s);
            return;
        }
        loop {
            let next_s = self.now_s + self.exponential(gap_s / BURST_RATES[self.burst]);
            if next_s <= self.burst_ends_s {
                self.now_s = next_s;
                return;
            }
            // Exponential gaps are memoryless: draw again from the moment of the rate change.
            self.now_s = self.burst_ends_s;
            self.burst = 1 - self.burst;
            self.burst_ends_s = self.now_s + self.exponential(BURST_STAY_S);
        }
    }

    fn next(&mut self) -> Planned {
        if self.batch_left == 0 {
            self.advance();
            while self.now_s >= self.next_drift_s {
                self.by_rank.shuffle(&mut self.rng);
                self.next_drift_s += self.drift_s;
            }
            let rank = self.rank.sample(&mut self.rng) as usize;
            let last = self.by_rank.len() - 1;
            self.batch_model = self.by_rank[rank.saturating_sub(1).min(last)];
            self.batch_left = self.batch;
        }
        self.batch_left -= 1;
        Planned {
            at_s: self.now_s,
            model: self.batch_model,
            owner: 0,
            run_s: self.run_s(),
        }
    }
}

/// Returns one of the independent generators of a seed: 0 for the workload, 1 for the policy's
/// choices, 2 for failures, 3 for the jitter of a replay.
pub fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

/// Draws random bits for a choice among equals.
pub fn coin(rng: &mut ChaCha8Rng) -> u64 {
    rng.random()
}
