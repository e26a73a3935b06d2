//! The 24 jobs, and the waves in which they are submitted.

use std::ops::Range;

use serde_json::{Value, json};

/// The app.
pub const APP: &str = "warmq/diffusion";

/// The models: three, while a runner holds two.
pub const MODELS: [&str; 3] = ["shapes", "digits", "landscapes"];

/// Jobs per wave. A wave is submitted after the previous one ended, so its first jobs find idle
/// runners, and its last one finds all runners busy while there are two.
const WAVES: [usize; 7] = [3, 3, 3, 3, 4, 4, 4];

/// Number of finished jobs after which a third runner joins.
pub const THIRD_RUNNER_AFTER: usize = 12;

/// Prompts by model, in the order of [`MODELS`].
const PROMPTS: [[&str; 8]; 3] = [
    [
        "a red circle on a blue background",
        "a yellow star on a purple background",
        "a green square on a white background",
        "an orange triangle on a black background",
        "a white star on a red background",
        "a blue circle on an orange background",
        "a purple triangle on a yellow background",
        "a black square on a green background",
    ],
    [
        "a handwritten seven",
        "the digit three",
        "a handwritten 0",
        "the number 4",
        "a handwritten nine",
        "the digit two",
        "a handwritten 5",
        "the number eight",
    ],
    [
        "a sunset over the sea, sun on the left",
        "a full moon over a snowy field, in the middle",
        "green hills at dawn, sun on the right",
        "a noon sun over sand dunes, in the middle",
        "a full moon over the ocean, moon on the right",
        "a sunset over the desert, sun in the middle",
        "sunrise over snowy hills, sun on the left",
        "a green valley at noon, sun on the right",
    ],
];

/// The protocol of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The HTTP API.
    Http,
    /// A publish to the exchange `jobs`.
    Amqp,
}

impl Via {
    /// Returns `http` or `amqp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Amqp => "amqp",
        }
    }
}

/// One job of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedJob {
    /// Number, from 1.
    pub number: usize,
    /// The model; its hint, in the run with hints.
    pub model: &'static str,
    /// The prompt.
    pub prompt: &'static str,
    /// The protocol of its submission.
    pub via: Via,
}

impl PlannedJob {
    /// Returns the input.
    pub fn input(&self) -> Value {
        json!({"model": self.model, "prompt": self.prompt, "seed": self.number})
    }
}

/// Returns all jobs in order of submission: the models take turns, and each turn starts with
/// another one.
pub fn jobs() -> Vec<PlannedJob> {
    let count = PROMPTS.iter().map(|prompts| prompts.len()).sum();
    let planned = |index: usize| {
        let turn = index / MODELS.len();
        let model = (index + turn) % MODELS.len();
        PlannedJob {
            number: index + 1,
            model: MODELS[model],
            prompt: PROMPTS[model][turn],
            via: match (model + turn).is_multiple_of(2) {
                true => Via::Http,
                false => Via::Amqp,
            },
        }
    };
    (0..count).map(planned).collect()
}

/// Returns the waves, as ranges of [`jobs`].
pub fn waves() -> Vec<Range<usize>> {
    let begins = WAVES.iter().scan(0, |next, size| {
        let begin = *next;
        *next += size;
        Some(begin..*next)
    });
    begins.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_model_has_eight_jobs_and_each_protocol_twelve() {
        let jobs = jobs();
        assert_eq!(jobs.len(), 24);
        for model in MODELS {
            let of_model: Vec<_> = jobs
                .iter()
                .filter(|planned| planned.model == model)
                .collect();
            assert_eq!(of_model.len(), 8);
            let http = of_model
                .iter()
                .filter(|planned| planned.via == Via::Http)
                .count();
            assert_eq!(http, 4, "{model}");
        }
        let prompts: BTreeSet<_> = jobs.iter().map(|planned| planned.prompt).collect();
        assert_eq!(prompts.len(), 24);
    }

    #[test]
    fn the_waves_cover_all_jobs_and_one_ends_when_the_third_runner_joins() {
        let waves = waves();
        assert_eq!(waves.last().unwrap().end, jobs().len());
        assert!(waves.iter().any(|wave| wave.end == THIRD_RUNNER_AFTER));
    }
}
