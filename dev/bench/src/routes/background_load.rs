//! Background load: concurrent flows, whose steps a router submits, or clients that submit the same
//! steps themselves.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::time::sleep;
use warmq_types::ids::JobId;

use super::targets::{STEPS, Target, input};
use super::testbed::RouteTestbed;

/// The number of flows or clients, and the mean run time of their steps.
#[derive(Debug, Clone, Copy)]
pub struct BackgroundLoad {
    /// Number of concurrent flows or clients.
    pub count: u32,
    /// The steps' mean run time, ms.
    pub step_ms: u64,
}

impl BackgroundLoad {
    /// Returns the approximate duration of a flow, after which all have started.
    pub fn duration(self) -> Duration {
        match self.count {
            0 => Duration::ZERO,
            _ => Duration::from_millis(self.step_ms * STEPS.len() as u64),
        }
    }

    /// Runs sequences until some time, and then to their ends. Returns all of them.
    ///
    /// # Errors
    /// The router is unreachable, or a flow fails.
    pub async fn run_flows(
        self,
        testbed: &RouteTestbed,
        until: Instant,
    ) -> anyhow::Result<Vec<JobId>> {
        let run = async |number| {
            let input = input(self.run_ms(number), u64::from(number));
            (testbed.client().run(Target::Sequence.name(), &input)).await
        };
        self.run_until(until, run).await
    }

    /// Runs the same by clients, which submit each step once they have the result of the previous
    /// one. Returns the jobs of each.
    ///
    /// # Errors
    /// The router is unreachable, or a job fails.
    pub async fn run_clients(
        self,
        testbed: &RouteTestbed,
        until: Instant,
    ) -> anyhow::Result<Vec<Vec<JobId>>> {
        let run = async |number| {
            let input = input(self.run_ms(number), u64::from(number));
            let mut jobs = Vec::new();
            for app in STEPS {
                jobs.push(testbed.client().run(app, &input).await?);
            }
            Ok(jobs)
        };
        self.run_until(until, run).await
    }

    async fn run_until<T>(
        self,
        until: Instant,
        run: impl AsyncFn(u32) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<T>> {
        let each = (0..self.count).map(async |number| -> anyhow::Result<Vec<T>> {
            sleep(self.duration().mul_f64(self.part(number))).await;
            let mut ended = Vec::new();
            while Instant::now() < until {
                ended.push(run(number).await?);
            }
            Ok(ended)
        });
        Ok(try_join_all(each).await?.into_iter().flatten().collect())
    }

    /// Returns 0.5 to 1.5 times the mean, so that no two run in lockstep.
    fn run_ms(self, number: u32) -> u64 {
        (self.step_ms as f64 * (0.5 + self.part(number))).round() as u64
    }

    fn part(self, number: u32) -> f64 {
        f64::from(number) / f64::from(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_run_in_lockstep_and_the_mean_is_as_configured() {
        let load = BackgroundLoad {
            count: 50,
            step_ms: 500,
        };
        let runs_ms: Vec<u64> = (0..load.count).map(|number| load.run_ms(number)).collect();
        assert!(runs_ms.is_sorted_by(|a, b| a < b), "{runs_ms:?}");
        let mean_ms = runs_ms.iter().sum::<u64>() / u64::from(load.count);
        assert!(mean_ms.abs_diff(load.step_ms) <= 5, "{mean_ms}");
        assert_eq!(load.duration(), Duration::from_millis(1500));
    }
}
