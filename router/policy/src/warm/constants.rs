//! The policy's constants. They were found by simulation (`warmq-bench table`) and are no settings; tests change them.

/// How the policy weighs waiting against loading. S is a model's run time, L its load time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constants {
    /// theta: a job is held for a warm runner up to theta · L.
    pub theta: f64,
    /// tb: the wait, in units of L, above which a hot model gets another copy that evicts a model.
    pub steering_bar: f64,
    /// The same where a runner has room: that copy costs no model its place.
    pub room_bar: f64,
    /// delta: a model is hot on a runner if a further copy would earn more than 1 + delta times the victim's share.
    pub steering_hysteresis: f64,
    /// D in units of max(S, L): the age at which a held job's order wins over warmth.
    pub overdue: f64,
    /// R in units of L: a runner with warm work is not forced to swap again sooner.
    pub residency: f64,
    /// Idle runners looked at per decision.
    pub sample: usize,
    /// HeldJob jobs looked at per decision.
    pub scan: usize,
    /// Holders of one model looked at when its wait is predicted.
    pub holders: usize,
    /// tau in units of S: how far back arrival rates look.
    pub rate_window: f64,
    /// S before anything has run, s.
    pub prior_run_s: f64,
    /// L before anything was loaded, s.
    pub prior_load_s: f64,
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
            sample: 8,
            scan: 32,
            holders: 8,
            rate_window: 30.0,
            prior_run_s: 2.0,
            prior_load_s: 10.0,
        }
    }
}
