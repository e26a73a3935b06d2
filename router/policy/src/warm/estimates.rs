//! Estimates per model: run time S(m), load times from disk L(m) and from RAM, arrival rate lam(m).
//! Measured from events; a model without observations has the app's average, and the app starts
//! from priors.

use serde::{Deserialize, Serialize};

use super::constants::Constants;
use super::event::Model;

/// Weight of a new observation after the first few.
const MIN_WEIGHT: f64 = 0.1;

/// A moving average whose initial guess counts as one observation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Average {
    value: f64,
    observations: f64,
}

impl Average {
    fn new(guess: f64) -> Self {
        Self {
            value: guess,
            observations: 1.0,
        }
    }

    fn observe(&mut self, value: f64) {
        if value.is_finite() && value >= 0.0 {
            self.observations += 1.0;
            self.value += (value - self.value) * (1.0 / self.observations).max(MIN_WEIGHT);
        }
    }
}

/// Arrivals with exponential decay of time constant tau.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Arrivals {
    /// sum over arrivals of exp(-age/tau), as of `at_s`.
    count: f64,
    at_s: f64,
}

impl Arrivals {
    fn count(&self, now_s: f64, tau_s: f64) -> f64 {
        self.count * (-(now_s - self.at_s).max(0.0) / tau_s).exp()
    }

    fn observe(&mut self, now_s: f64, tau_s: f64) {
        self.count = self.count(now_s, tau_s) + 1.0;
        self.at_s = now_s;
    }
}

/// Measured statistics of a model, or of the app. Its JSON is for another leader of the same
/// version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statistics {
    #[serde(skip_serializing_if = "Option::is_none")]
    run_s: Option<Average>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_s: Option<Average>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ram_load_s: Option<Average>,
    arrivals: Arrivals,
}

impl Statistics {
    /// Returns the average run time, s; `None` before the first observation.
    pub fn run_s(&self) -> Option<f64> {
        self.run_s.map(|average| average.value)
    }

    /// Returns the number of recent arrivals as of `now_s`: each decays with time constant tau.
    pub fn recent_arrivals(&self, now_s: f64, tau_s: f64) -> f64 {
        self.arrivals.count(now_s, tau_s.max(f64::MIN_POSITIVE))
    }
}

/// Decayed arrival count below which a model counts as unused: 5 tau after the last arrival.
const FORGET_BELOW_ARRIVALS: f64 = 0.01;

#[derive(Debug, Clone)]
pub struct Estimates {
    run_s: Average,
    load_s: Average,
    /// Load time from RAM over L.
    ram_ratio: Average,
    rate_window: f64,
    models: Vec<Statistics>,
}

impl Estimates {
    /// Starts from the priors.
    pub fn new(constants: &Constants) -> Self {
        Self {
            run_s: Average::new(constants.prior_run_s),
            load_s: Average::new(constants.prior_load_s),
            ram_ratio: Average::new(constants.prior_ram_ratio),
            rate_window: constants.rate_window,
            models: Vec::new(),
        }
    }

    fn stats(&self, model: Model) -> Option<&Statistics> {
        self.models.get(model.0 as usize)
    }

    fn stats_mut(&mut self, model: Model) -> &mut Statistics {
        let index = model.0 as usize;
        if index >= self.models.len() {
            self.models.resize(index + 1, Statistics::default());
        }
        &mut self.models[index]
    }

    /// Returns tau = 30 · S, s.
    fn tau_s(&self) -> f64 {
        (self.rate_window * self.run_s.value).max(f64::MIN_POSITIVE)
    }

    /// Returns S(m), the run time of this model, s.
    pub fn run_s(&self, model: Model) -> f64 {
        let known = self.stats(model).and_then(|stats| stats.run_s);
        known.unwrap_or(self.run_s).value
    }

    /// Returns S of the app, s.
    pub fn any_run_s(&self) -> f64 {
        self.run_s.value
    }

    /// Returns L(m), the load time of this model from disk, s.
    pub fn load_s(&self, model: Model) -> f64 {
        let known = self.stats(model).and_then(|stats| stats.load_s);
        known.unwrap_or(self.load_s).value
    }

    /// Returns the load time of this model from RAM, s: without an observation, the app's average
    /// part of L(m).
    pub fn ram_load_s(&self, model: Model) -> f64 {
        match self.stats(model).and_then(|stats| stats.ram_load_s) {
            Some(known) => known.value,
            None => self.ram_ratio.value * self.load_s(model),
        }
    }

    /// Returns L of the app, s.
    pub fn any_load_s(&self) -> f64 {
        self.load_s.value
    }

    /// Returns lam(m), jobs/s.
    pub fn rate(&self, model: Model, now_s: f64) -> f64 {
        let tau_s = self.tau_s();
        self.stats(model)
            .map_or(0.0, |stats| stats.arrivals.count(now_s, tau_s) / tau_s)
    }

    /// Returns the statistics of a model, or with `None` of the app.
    pub fn statistics(&self, model: Option<Model>) -> Statistics {
        match model {
            Some(model) => self.stats(model).copied().unwrap_or_default(),
            None => Statistics {
                run_s: Some(self.run_s),
                load_s: Some(self.load_s),
                ram_load_s: Some(Average {
                    value: self.ram_ratio.value * self.load_s.value,
                    ..self.ram_ratio
                }),
                arrivals: Arrivals::default(),
            },
        }
    }

    /// Restores statistics.
    pub fn restore(&mut self, model: Option<Model>, statistics: Statistics) {
        match model {
            Some(model) => *self.stats_mut(model) = statistics,
            None => {
                self.run_s = statistics.run_s.unwrap_or(self.run_s);
                self.load_s = statistics.load_s.unwrap_or(self.load_s);
                if let Some(known) = statistics.ram_load_s
                    && self.load_s.value > 0.0
                {
                    self.ram_ratio = Average {
                        value: known.value / self.load_s.value,
                        ..known
                    };
                }
            }
        }
    }

    /// Forgets a model; returns false if it had recent arrivals.
    pub fn forget(&mut self, model: Model, now_s: f64) -> bool {
        let tau_s = self.tau_s();
        let stats = self.stats_mut(model);
        let faded = stats.arrivals.count(now_s, tau_s) < FORGET_BELOW_ARRIVALS;
        if faded {
            *stats = Statistics::default();
        }
        faded
    }

    /// Records an arrival.
    pub fn arrived(&mut self, model: Model, now_s: f64) {
        let tau_s = self.tau_s();
        self.stats_mut(model).arrivals.observe(now_s, tau_s);
    }

    /// Records a run time.
    pub fn ran(&mut self, model: Model, run_s: f64) {
        let guess = self.run_s;
        let known = &mut self.stats_mut(model).run_s;
        known
            .get_or_insert_with(|| Average::new(guess.value))
            .observe(run_s);
        self.run_s.observe(run_s);
    }

    /// Records a load time from RAM.
    pub fn loaded_from_ram(&mut self, model: Model, load_s: f64) {
        let guess_s = self.ram_load_s(model);
        let disk_s = self.load_s(model);
        let known = &mut self.stats_mut(model).ram_load_s;
        known
            .get_or_insert_with(|| Average::new(guess_s))
            .observe(load_s);
        // A ratio to 0 is no observation.
        self.ram_ratio.observe(load_s / disk_s);
    }

    /// Records a load time from disk.
    pub fn loaded(&mut self, model: Model, load_s: f64) {
        let guess = self.load_s;
        let known = &mut self.stats_mut(model).load_s;
        known
            .get_or_insert_with(|| Average::new(guess.value))
            .observe(load_s);
        self.load_s.observe(load_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_model_has_the_average_estimates() {
        let mut estimates = Estimates::new(&Constants::default());
        assert_eq!(estimates.load_s(Model(7)), 10.0);
        for _ in 0..100 {
            estimates.loaded(Model(0), 4.0);
        }
        assert!((estimates.load_s(Model(7)) - 4.0).abs() < 0.1);
        assert!((estimates.load_s(Model(0)) - 4.0).abs() < 0.1);
    }

    #[test]
    fn the_rate_is_that_of_a_steady_stream_and_decays_after_it() {
        let mut estimates = Estimates::new(&Constants::default());
        for n in 0..4000 {
            estimates.arrived(Model(0), f64::from(n) * 0.5);
        }
        assert!((estimates.rate(Model(0), 2000.0) - 2.0).abs() < 0.05);
        assert!(estimates.rate(Model(0), 2600.0) < 0.001);
        assert_eq!(estimates.rate(Model(1), 2000.0), 0.0);
    }
}
