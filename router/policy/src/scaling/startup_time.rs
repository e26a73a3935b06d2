//! How long new runners take to appear.

/// Expected time before the first observation, s.
const PRIOR_S: f64 = 10.0;

/// Maximum of the expected time, s: a runner that appears later was not started in time, and says
/// nothing about the next one.
const MAX_S: f64 = 120.0;

/// Measures the time from a request for further runners to the first that appears.
#[derive(Debug, Clone, Copy)]
pub(super) struct StartupTime {
    last_s: f64,
    request: Option<Request>,
}

/// A request that is not satisfied yet.
#[derive(Debug, Clone, Copy)]
struct Request {
    since_s: f64,
    /// Number of runners at its beginning; `None` once the first has appeared.
    runners: Option<usize>,
}

impl Default for StartupTime {
    fn default() -> Self {
        Self {
            last_s: PRIOR_S,
            request: None,
        }
    }
}

impl StartupTime {
    /// Observes the number of runners and returns the time that a new one is expected to take, s.
    pub(super) fn expected_s(&mut self, now_s: f64, runners: usize) -> f64 {
        if let Some(request) = &mut self.request
            && request.runners.is_some_and(|before| runners > before)
        {
            self.last_s = (now_s - request.since_s).clamp(0.0, MAX_S);
            request.runners = None;
        }
        self.last_s
    }

    /// Records how many runners are wanted.
    pub(super) fn request(&mut self, now_s: f64, runners: usize, wanted: usize) {
        match wanted > runners {
            true => {
                self.request.get_or_insert(Request {
                    since_s: now_s,
                    runners: Some(runners),
                });
            }
            false => self.request = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_runner_after_a_request_is_measured() {
        let mut time = StartupTime::default();
        assert_eq!(time.expected_s(0.0, 0), PRIOR_S);
        time.request(0.0, 0, 2);
        assert_eq!(time.expected_s(3.0, 0), PRIOR_S);
        time.request(3.0, 0, 2);
        assert_eq!(time.expected_s(4.0, 1), 4.0);
        time.request(4.0, 1, 2);
        assert_eq!(time.expected_s(9.0, 2), 4.0);
        time.request(9.0, 2, 2);
        // Started without a request.
        assert_eq!(time.expected_s(99.0, 3), 4.0);
        time.request(99.0, 3, 4);
        assert_eq!(time.expected_s(9999.0, 4), MAX_S);
    }
}
