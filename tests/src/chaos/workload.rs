//! The jobs of a run, and what may become of each: drawn from the seed, before anything runs.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::plan::{Scale, stream};
use crate::system::TIMED;

/// What a job that is to fail says.
pub const FAILURE: &str = "it was to fail";

/// Models that jobs ask for; more than the workers hold together would be loads only.
const HINTS: u32 = 6;

/// How long a load takes, ms.
const LOAD_MS: u32 = 50;

/// A job that runs so long, ms, is long enough for its worker to be hit in the middle of it.
pub const LONG_MS: u32 = 300;

/// The way that a job is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// With an idempotency key of its own.
    Http,
    /// With a message id of its own.
    Amqp {
        /// The outcome is wanted as a message.
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

/// The sequence that flows are submitted to.
pub const FLOW: &str = "chaos/flow";

/// What the routers are configured with. Each step passes on what it is given.
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

/// How a job ends, if nobody cancels it and its runners live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// With its own number as output: another job's output would show.
    Number,
    /// With what differs between two executions as output (runner, warm or cold): a second execution's would show.
    Execution,
    /// With the error [`FAILURE`].
    Failure,
}

/// A job that a user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Its own number.
    pub number: usize,
    /// When it is submitted, from the first one on.
    pub at: Duration,
    /// One job, or several.
    pub shape: Shape,
    /// The way.
    pub transport: Transport,
    /// What it needs.
    pub hint: Option<String>,
    /// How long it runs, ms.
    pub run_ms: u32,
    /// How it ends.
    pub expected: Expected,
    /// It may be begun once only.
    pub no_retry: bool,
    /// It is submitted again after it was accepted, as by somebody who did not hear the answer.
    pub twice: bool,
    /// It is cancelled so long after it was accepted.
    pub cancelled_after: Option<Duration>,
}

impl Submission {
    /// A job that is only there to see how fast it ends.
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

    /// The content of its file, if it has one; the size is its own.
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

    /// Its output, if it ends with its number.
    pub fn output(&self) -> Value {
        json!({"number": self.number})
    }
}

/// The jobs of a seed, in the order of their submission.
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
