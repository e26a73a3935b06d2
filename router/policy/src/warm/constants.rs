//! The policy's constants, found by simulation (`warmq-bench table`). They are not settings; only
//! tests change them.

/// Weights of waiting against loading. S is a model's run time, L its load time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constants {
    /// theta: a job is held for a warm runner up to theta · L.
    pub theta: f64,
    /// tb: the wait, in units of L, above which a hot model gets another copy that causes an
    /// eviction.
    pub steering_bar: f64,
    /// The same for a runner with room: that copy causes no eviction.
    pub room_bar: f64,
    /// delta: a model is hot on a runner if a further copy would earn more than 1 + delta times the
    /// runner's eviction cost.
    pub steering_hysteresis: f64,
    /// D in units of max(S, L): the age from which order precedes warmth.
    pub overdue: f64,
    /// R in units of L: the minimum time between forced swaps of a runner with warm work.
    pub residency: f64,
    /// In units of L: how long a runner stays with the owner of its last job before it is loaded
    /// for another one.
    pub keep: f64,
    /// Jobs per L that the models on that runner must be expected to have there.
    pub keep_rate: f64,
    /// Idle runners sampled per decision.
    pub sample: usize,
    /// Held jobs scanned per decision.
    pub scan: usize,
    /// Holders of a model sampled to predict its wait.
    pub holders: usize,
    /// tau in units of S: time constant of the arrival rates.
    pub rate_window: f64,
    /// S before the first run, s.
    pub prior_run_s: f64,
    /// L before the first load, s.
    pub prior_load_s: f64,
    /// Load time from RAM before the first such load, in units of L.
    pub prior_ram_ratio: f64,
}

impl Default for Constants {
    fn default() -> Self {
        Self {
            theta: 2.0,
            steering_bar: 0.6,
            room_bar: 0.3,
            steering_hysteresis: 1.0,
            overdue: 6.0,
            residency: 10.0,
            keep: 1.0,
            keep_rate: 2.0,
            sample: 8,
            scan: 32,
            holders: 8,
            rate_window: 30.0,
            prior_run_s: 2.0,
            prior_load_s: 10.0,
            prior_ram_ratio: 0.1,
        }
    }
}
