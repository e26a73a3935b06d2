//! The included models follow their prompts, at the manifests' defaults. Prompts, seeds and the
//! rules that score pictures are in models/scorers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "support/scorers.rs"]
mod scorers;
mod support;

use std::fmt::Debug;
use std::fs;

use scorers::{DigitReader, Scene, SceneReader, Shape, ShapeReader};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use support::{load, models};
use warmq_diffusion::{Picture, Request};

/// A prompt, and the expected content of its picture.
#[derive(Deserialize)]
struct Question<A> {
    prompt: String,
    seed: u64,
    #[serde(flatten)]
    answer: A,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Digit {
    digit: usize,
}

#[derive(Deserialize)]
struct Questions<A> {
    prompts: Vec<Question<A>>,
}

fn read<T: DeserializeOwned>(file: &str) -> T {
    let path = models().join("scorers").join(file);
    let text = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// Draws every prompt, and compares the fraction of correct pictures with `least`, per cent.
fn examine<A: DeserializeOwned + Debug + PartialEq>(
    model: &str,
    file: &str,
    least: usize,
    reader: impl Fn(&Picture) -> A,
) {
    let pipeline = load(model);
    let Questions::<A> { prompts } = read(file);
    assert!(
        prompts.len() >= 48,
        "{} are too few to judge by",
        prompts.len()
    );
    let mut right = 0;
    for Question {
        prompt,
        seed,
        answer,
    } in &prompts
    {
        let request = Request {
            prompt: prompt.clone(),
            seed: *seed,
            ..Request::default()
        };
        let pictures = pipeline.generate(&request, &mut ()).unwrap();
        let seen = reader(&pictures[0]);
        if seen == *answer {
            right += 1;
        } else {
            println!("  {prompt:?}, seed {seed}: {seen:?}");
        }
    }
    println!(
        "{model}: {right} of {} pictures show what was requested",
        prompts.len()
    );
    assert!(
        100 * right >= least * prompts.len(),
        "{model}: {right} of {}, less than {least} %",
        prompts.len()
    );
}

/// On combinations of figure and colours that are not in the training set.
#[test]
fn shapes_have_their_figure_and_both_colours() {
    let file = "heldout_shapes.json";
    let reader: ShapeReader = read(file);
    examine::<Shape>("shapes", file, 85, |picture| reader.read(picture));
}

#[test]
fn digits_are_read_as_themselves() {
    let reader = DigitReader::open(&models().join("scorers/digits_classifier.safetensors"));
    examine("digits", "digits_prompts.json", 95, |picture| Digit {
        digit: reader.read(picture),
    });
}

#[test]
fn landscapes_have_their_hour_ground_and_light() {
    let file = "landscapes_prompts.json";
    let reader: SceneReader = read(file);
    examine::<Scene>("landscapes", file, 85, |picture| reader.read(picture));
}
