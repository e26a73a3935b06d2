//! The work in jobs that wait: how long they will occupy runners.

/// The work in the jobs that a dispatcher holds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HeldWork {
    /// Number of these jobs.
    pub jobs: usize,
    /// Time that they will occupy runners, s.
    pub total_s: f64,
    /// Expected run time of a job that is not known yet, s.
    pub run_s: f64,
}

impl HeldWork {
    /// Returns the work in no job. `run_s`: expected run time of a job.
    pub fn empty(run_s: f64) -> Self {
        Self {
            run_s,
            ..Self::default()
        }
    }

    /// Adds a job of which nothing is known.
    pub fn add_job(&mut self) {
        self.jobs += 1;
        self.total_s += self.run_s;
    }

    /// Returns the work in `waiting` jobs of which these are held, s: the others are like them.
    pub fn of_waiting(&self, waiting: usize) -> f64 {
        let others = waiting.saturating_sub(self.jobs);
        let each_s = match self.jobs {
            0 => self.run_s,
            jobs => self.total_s / jobs as f64,
        };
        self.total_s + others as f64 * each_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_are_not_held_are_like_those_that_are() {
        let work = HeldWork {
            jobs: 4,
            total_s: 20.0,
            run_s: 1.0,
        };
        assert_eq!(work.of_waiting(4), 20.0);
        assert_eq!(work.of_waiting(10), 50.0);
        // A job may be sent between the two counts.
        assert_eq!(work.of_waiting(3), 20.0);
        assert_eq!(HeldWork::empty(2.0).of_waiting(3), 6.0);
    }
}
