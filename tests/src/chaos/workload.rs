//! The submissions of a run, drawn from the seed before the run.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::plan::{Scale, stream};
use crate::system::TIMED;

/// Error message of a job that is planned to fail.
pub const FAILURE: &str = "it was to fail";

/// Number of models; more than the workers hold together would make every run cold.
const HINTS: u32 = 6;

/// Load time, ms.
const LOAD_MS: u32 = 50;

/// Run time of a job that is long enough for a fault in mid-run, ms.
pub const LONG_MS: u32 = 300;

/// How a job is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// With an idempotency key.
    Http,
    /// With a message id.
    Amqp {
        /// Whether the outcome is requested as a message.
        reply: bool,
    },
}

/// What is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One job of [`TIMED`].
    Job,
    /// One job of [`TIMED`] with an uploaded file, whose size the engine returns.
    JobWithFile,
    /// A flow of [`FLOW`]: a job, then another one through a nested fallback.
    Flow,
}

/// The route that flows are submitted to.
pub const FLOW: &str = "chaos/flow";

/// The routers' configuration. Each step passes its input on.
pub fn config() -> String {
    format!(
        r#"
[apps.'{TIMED}']

[routes.'{FLOW}']
kind = 'sequence'

[[routes.'{FLOW}'.steps]]
name = 'first'
app = '{TIMED}'
[routes.'{FLOW}'.steps.input]
run_ms = 'input.run_ms'
load_ms = 'input.load_ms'
fail = 'has(input.fail) ? input.fail : null'
output = 'has(input.output) ? input.output : null'

[[routes.'{FLOW}'.steps]]
name = 'second'
app = 'chaos/nested'
input = {{ load_ms = 'input.load_ms', output = 'steps.first.output' }}

[routes.'chaos/nested']
kind = 'fallback'
to = [{{ app = '{TIMED}', input = {{ run_ms = 5, load_ms = 'input.load_ms', output = 'input.output' }} }}]
"#
    )
}

/// The expected end of a job that is not cancelled and does not lose its runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Its number as output, which reveals another job's output.
    Number,
    /// Output that differs between two executions (runner, warm or cold), which reveals a second
    /// one.
    Execution,
    /// The error [`FAILURE`].
    Failure,
}

/// A planned submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Index in the workload.
    pub number: usize,
    /// Time after the first submission.
    pub at: Duration,
    /// Job or flow.
    pub shape: Shape,
    /// HTTP or AMQP.
    pub transport: Transport,
    /// Model of the job.
    pub hint: Option<String>,
    /// Run time, ms.
    pub run_ms: u32,
    /// Expected end.
    pub expected: Expected,
    /// Whether it has one attempt only.
    pub no_retry: bool,
    /// Whether it is submitted again after acceptance, as after a lost response.
    pub twice: bool,
    /// Time from acceptance to its cancellation.
    pub cancelled_after: Option<Duration>,
}

impl Submission {
    /// A job that measures recovery.
    pub fn probe(number: usize) -> Self {
        Self {
            number,
            at: Duration::ZERO,
            shape: Shape::Job,
            transport: Transport::Http,
            hint: None,
            run_ms: 1,
            expected: Expected::Number,
            no_retry: false,
            twice: false,
            cancelled_after: None,
        }
    }

    /// The app or route that it is submitted to.
    pub fn endpoint(&self) -> &'static str {
        match self.shape {
            Shape::Job | Shape::JobWithFile => TIMED,
            Shape::Flow => FLOW,
        }
    }

    /// The content of its file, if it has one, of a size of its own.
    pub fn file(&self) -> Option<Vec<u8>> {
        (self.shape == Shape::JobWithFile).then(|| vec![b'.'; self.number + 1])
    }

    /// Its input, without the link to its file.
    pub fn input(&self) -> Value {
        let mut input = json!({"run_ms": self.run_ms, "load_ms": LOAD_MS});
        match self.expected {
            Expected::Number => input["output"] = self.output(),
            Expected::Execution => {}
            Expected::Failure => input["fail"] = FAILURE.into(),
        }
        input
    }

    /// Its output, if it is its number.
    pub fn output(&self) -> Value {
        json!({"number": self.number})
    }
}

/// Draws the submissions of a seed, in order of time.
pub fn draw(seed: u64, scale: Scale) -> Vec<Submission> {
    let mut rng = stream(seed, 1);
    let count = u32::try_from(scale.jobs.max(1)).unwrap_or(u32::MAX);
    (0..scale.jobs)
        .map(|number| {
            let at = scale.length / count * u32::try_from(number).unwrap_or(u32::MAX);
            submission(&mut rng, number, at)
        })
        .collect()
}

fn submission(rng: &mut ChaCha8Rng, number: usize, at: Duration) -> Submission {
    let transport = match rng.random_ratio(2, 3) {
        true => Transport::Http,
        false => Transport::Amqp {
            reply: rng.random_ratio(1, 2),
        },
    };
    let shape = match (transport, rng.random_range(0..10)) {
        (_, 0) => Shape::Flow,
        // Files are uploaded by HTTP.
        (Transport::Http, 1) => Shape::JobWithFile,
        _ => Shape::Job,
    };
    let hint = rng.random_range(0..HINTS);
    Submission {
        number,
        at,
        shape,
        transport,
        hint: rng.random_ratio(2, 3).then(|| format!("model-{hint}")),
        run_ms: match rng.random_ratio(1, 25) {
            true => rng.random_range(LONG_MS..=4 * LONG_MS),
            false => rng.random_range(5..=50),
        },
        expected: match (rng.random_range(0..20), shape) {
            (0, _) => Expected::Failure,
            // The file's size is part of the engine's own output.
            (1..10, Shape::Job | Shape::Flow) => Expected::Number,
            _ => Expected::Execution,
        },
        no_retry: rng.random_ratio(1, 20),
        twice: rng.random_ratio(1, 20),
        cancelled_after: (rng.random_ratio(1, 25))
            .then(|| Duration::from_millis(rng.random_range(0..500))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_all_jobs_and_covers_every_kind() {
        let submissions = draw(7, Scale::FULL);
        assert_eq!(submissions, draw(7, Scale::FULL));
        assert_eq!(submissions.len(), Scale::FULL.jobs);
        let some = |sort: fn(&Submission) -> bool| assert!(submissions.iter().any(sort));
        some(|submission| submission.transport == Transport::Amqp { reply: true });
        some(|submission| submission.transport == Transport::Amqp { reply: false });
        some(|submission| submission.transport == Transport::Http && submission.twice);
        some(|submission| submission.hint.is_none());
        some(|submission| {
            submission.shape == Shape::Flow && submission.transport != Transport::Http
        });
        some(|submission| {
            submission.shape == Shape::JobWithFile && submission.expected == Expected::Failure
        });
        some(|submission| submission.expected == Expected::Failure);
        some(|submission| submission.no_retry);
        some(|submission| submission.cancelled_after.is_some());
        assert!(submissions.is_sorted_by_key(|submission| submission.at));
    }
}
