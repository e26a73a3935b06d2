//! The jobs of a run, and what may become of each: drawn from the seed, before anything runs.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::plan::{Scale, stream};
use crate::stage::TIMED;

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
pub enum Door {
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
pub enum Ending {
    /// With its own number as output: another job's output would show.
    Number,
    /// With what differs between two executions as output (runner, warm or cold): a second execution's would show.
    Execution,
    /// With the error [`FAILURE`].
    Failure,
}

/// A job that a user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its own number.
    pub number: usize,
    /// When it is submitted, from the first one on.
    pub at: Duration,
    /// One job, or several.
    pub shape: Shape,
    /// The way.
    pub door: Door,
    /// What it needs.
    pub hint: Option<String>,
    /// How long it runs, ms.
    pub run_ms: u32,
    /// How it ends.
    pub ending: Ending,
    /// It may be begun once only.
    pub no_retry: bool,
    /// It is submitted again after it was accepted, as by somebody who did not hear the answer.
    pub twice: bool,
    /// It is cancelled so long after it was accepted.
    pub cancelled_after: Option<Duration>,
}

impl Order {
    /// A job that is only there to see how fast it ends.
    pub fn probe(number: usize) -> Self {
        Self {
            number,
            at: Duration::ZERO,
            shape: Shape::Job,
            door: Door::Http,
            hint: None,
            run_ms: 1,
            ending: Ending::Number,
            no_retry: false,
            twice: false,
            cancelled_after: None,
        }
    }

    /// The app or route that it is submitted to.
    pub fn destination(&self) -> &'static str {
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
        match self.ending {
            Ending::Number => input["output"] = self.output(),
            Ending::Execution => {}
            Ending::Failure => input["fail"] = FAILURE.into(),
        }
        input
    }

    /// Its output, if it ends with its number.
    pub fn output(&self) -> Value {
        json!({"number": self.number})
    }
}

/// The jobs of a seed, in the order of their submission.
pub fn draw(seed: u64, scale: Scale) -> Vec<Order> {
    let mut rng = stream(seed, 1);
    let count = u32::try_from(scale.jobs.max(1)).unwrap_or(u32::MAX);
    (0..scale.jobs)
        .map(|number| {
            let at = scale.length / count * u32::try_from(number).unwrap_or(u32::MAX);
            order(&mut rng, number, at)
        })
        .collect()
}

fn order(rng: &mut ChaCha8Rng, number: usize, at: Duration) -> Order {
    let door = match rng.random_ratio(2, 3) {
        true => Door::Http,
        false => Door::Amqp {
            reply: rng.random_ratio(1, 2),
        },
    };
    let shape = match (door, rng.random_range(0..10)) {
        (_, 0) => Shape::Flow,
        // Files are uploaded by HTTP.
        (Door::Http, 1) => Shape::JobWithFile,
        _ => Shape::Job,
    };
    let hint = rng.random_range(0..HINTS);
    Order {
        number,
        at,
        shape,
        door,
        hint: rng.random_ratio(2, 3).then(|| format!("model-{hint}")),
        run_ms: match rng.random_ratio(1, 25) {
            true => rng.random_range(LONG_MS..=4 * LONG_MS),
            false => rng.random_range(5..=50),
        },
        ending: match (rng.random_range(0..20), shape) {
            (0, _) => Ending::Failure,
            // The file's size is part of the engine's own output.
            (1..10, Shape::Job | Shape::Flow) => Ending::Number,
            _ => Ending::Execution,
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
    fn a_seed_tells_all_jobs_and_has_all_sorts_of_them() {
        let orders = draw(7, Scale::FULL);
        assert_eq!(orders, draw(7, Scale::FULL));
        assert_eq!(orders.len(), Scale::FULL.jobs);
        let some = |sort: fn(&Order) -> bool| assert!(orders.iter().any(sort));
        some(|order| order.door == Door::Amqp { reply: true });
        some(|order| order.door == Door::Amqp { reply: false });
        some(|order| order.door == Door::Http && order.twice);
        some(|order| order.hint.is_none());
        some(|order| order.shape == Shape::Flow && order.door != Door::Http);
        some(|order| order.shape == Shape::JobWithFile && order.ending == Ending::Failure);
        some(|order| order.ending == Ending::Failure);
        some(|order| order.no_retry);
        some(|order| order.cancelled_after.is_some());
        assert!(orders.is_sorted_by_key(|order| order.at));
    }
}
