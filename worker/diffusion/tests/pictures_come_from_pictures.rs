//! Image-to-image: strength and previews.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "only shapes are read here")]
#[path = "support/scorers.rs"]
mod scorers;
mod support;

use std::fs;
use std::ops::ControlFlow;

use scorers::{Shape, ShapeReader};
use serde_json::json;
use support::{SmallModel, load, models, schedulers_of_unets};
use warmq_diffusion::{Error, Observer, Picture, Pipeline, Request, SchedulerKind};

/// Counts the steps, and records the previews with their steps.
#[derive(Default)]
struct Watcher {
    steps: u32,
    of: u32,
    previews: Vec<(u32, Picture)>,
}

impl Observer for Watcher {
    fn step(&mut self, step: u32, steps: u32) -> ControlFlow<()> {
        (self.steps, self.of) = (step, steps);
        ControlFlow::Continue(())
    }

    fn preview(&mut self, preview: Picture) {
        self.previews.push((self.steps, preview));
    }
}

fn draw(pipeline: &Pipeline, request: &Request) -> Picture {
    let mut pictures = pipeline.generate(request, &mut ()).unwrap();
    pictures.swap_remove(0)
}

fn from(image: &Picture, strength: f64) -> Request {
    Request {
        image: Some(image.clone()),
        strength: Some(strength),
        ..Request::default()
    }
}

fn checkered(width: u32, height: u32) -> Picture {
    let pixels = (0..width * height).map(|at| (at % width / 8 + at / width / 8) % 2);
    Picture {
        width,
        height,
        rgb: pixels
            .flat_map(|odd| [[255, 200, 0], [0, 40, 160]][odd as usize])
            .collect(),
    }
}

/// Mean over all channels of all pixels, of 255.
fn difference(one: &Picture, other: &Picture) -> f64 {
    assert_eq!((one.width, one.height), (other.width, other.height));
    let differences = one.rgb.iter().zip(&other.rgb).map(|(a, b)| a.abs_diff(*b));
    differences.map(f64::from).sum::<f64>() / one.rgb.len() as f64
}

fn shape(words: &str) -> Shape {
    let [_, colour, shape, _, _, background, _] = words.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{words}");
    };
    Shape {
        shape: shape.to_owned(),
        colour: colour.to_owned(),
        background: background.to_owned(),
    }
}

#[test]
fn strength_decides_between_the_picture_and_the_prompt() {
    let pipeline = load("shapes");
    let file = fs::read(models().join("scorers/heldout_shapes.json")).unwrap();
    let reader: ShapeReader = serde_json::from_slice(&file).unwrap();
    let (first, second) = (
        "a red circle on a blue background",
        "a yellow square on a green background",
    );
    let original = draw(
        &pipeline,
        &Request {
            prompt: first.into(),
            seed: 7,
            ..Request::default()
        },
    );
    assert_eq!(reader.read(&original), shape(first));
    let redrawn = |strength| {
        let request = Request {
            prompt: second.into(),
            seed: 3,
            ..from(&original, strength)
        };
        draw(&pipeline, &request)
    };
    let strengths = [0.01, 0.2, 0.4, 0.6, 0.8, 1.0];
    let pictures = strengths.map(redrawn);
    let away = pictures
        .each_ref()
        .map(|picture| difference(&original, picture));
    println!("difference at {strengths:?}: {away:.1?}");
    assert!(
        away[0] < 6.0,
        "what the autoencoder alone changes: {away:?}"
    );
    assert!(
        away[0] < away[1] && away[1] < away[3] && away[3] < away[5],
        "{away:?}"
    );
    assert_eq!(reader.read(&pictures[0]), shape(first));
    assert_eq!(reader.read(&pictures[5]), shape(second));
}

#[test]
fn strength_is_the_fraction_of_steps_that_run_and_at_least_one_runs() {
    let pipeline = SmallModel::new().load().unwrap();
    let image = checkered(16, 16);
    for (steps, strength, taken) in [
        (20, 0.5, 10),
        (20, 0.37, 7),
        (4, 0.1, 1),
        (1, 0.01, 1),
        (8, 1.0, 8),
    ] {
        let mut watcher = Watcher::default();
        let request = Request {
            steps: Some(steps),
            num_images: 2,
            ..from(&image, strength)
        };
        pipeline.generate(&request, &mut watcher).unwrap();
        assert_eq!(
            (watcher.steps, watcher.of),
            (2 * taken, 2 * taken),
            "{strength} of {steps}"
        );
    }
    let mut watcher = Watcher::default();
    let request = Request {
        steps: Some(10),
        image: Some(image),
        ..Request::default()
    };
    pipeline.generate(&request, &mut watcher).unwrap();
    assert_eq!(watcher.of, 8, "0.8 by default");
}

#[test]
fn the_same_seed_draws_the_same_from_the_same_picture() {
    let pipeline = SmallModel::new().load().unwrap();
    let image = checkered(16, 16);
    let request = Request {
        seed: 7,
        num_images: 2,
        ..from(&image, 0.5)
    };
    let first = pipeline.generate(&request, &mut ()).unwrap();
    assert_eq!(first, pipeline.generate(&request, &mut ()).unwrap());
    let second = Request {
        seed: 8,
        num_images: 1,
        ..request.clone()
    };
    assert_eq!(
        first[1],
        draw(&pipeline, &second),
        "each picture has its own seed"
    );
    let inverted = Picture {
        rgb: image.rgb.iter().map(|value| 255 - value).collect(),
        ..image
    };
    let other = Request {
        image: Some(inverted),
        ..request
    };
    assert_ne!(first[0], draw(&pipeline, &other));
}

#[test]
fn every_scheduler_but_lms_supports_a_starting_picture() {
    let allowed = schedulers_of_unets();
    let model = SmallModel::with(|manifest| manifest["scheduler"]["allowed"] = json!(allowed));
    let pipeline = model.load().unwrap();
    let image = checkered(16, 16);
    for kind in schedulers_of_unets() {
        for (steps, strength) in [
            (20, 0.05),
            (20, 0.5),
            (20, 1.0),
            (*kind.steps().start(), 0.5),
        ] {
            let request = Request {
                steps: Some(steps),
                scheduler: Some(kind.to_string()),
                previews: true,
                ..from(&image, strength)
            };
            let mut watcher = Watcher::default();
            match pipeline.generate(&request, &mut watcher) {
                Ok(pictures) => {
                    assert!(kind.supports_image());
                    assert_eq!(watcher.steps, watcher.of);
                    assert!(!watcher.previews.is_empty());
                    assert_eq!(pictures[0].width, 16);
                }
                Err(Error::InvalidRequest { field, .. }) => {
                    assert_eq!((kind, field), (SchedulerKind::Lms, "scheduler"));
                }
                Err(error) => panic!("{kind}, {steps} steps, {strength}: {error}"),
            }
        }
    }
}

#[test]
fn a_picture_of_any_size_is_stretched_to_what_is_drawn() {
    // 16 to 32 pixels, multiples of 8, 16 by default.
    let pipeline = SmallModel::new().load().unwrap();
    for (image, requested, drawn) in [
        ((16, 16), (None, None), (16, 16)),
        ((640, 640), (None, None), (16, 16)),
        ((400, 200), (None, None), (24, 16)),
        ((3, 1000), (None, None), (16, 32)),
        ((400, 200), (Some(32), None), (32, 16)),
        ((200, 400), (None, Some(32)), (16, 32)),
        ((200, 400), (Some(24), Some(24)), (24, 24)),
        ((1, 1), (None, None), (16, 16)),
    ] {
        let request = Request {
            width: requested.0,
            height: requested.1,
            ..from(&checkered(image.0, image.1), 0.5)
        };
        let picture = draw(&pipeline, &request);
        assert_eq!(
            (picture.width, picture.height),
            drawn,
            "{image:?}, {requested:?}"
        );
    }
}

#[test]
fn an_invalid_starting_picture_names_its_field() {
    let pipeline = SmallModel::new().load().unwrap();
    let whole = checkered(16, 16);
    let mut short = whole.clone();
    short.rgb.pop();
    let none = Picture {
        width: 0,
        height: 16,
        rgb: Vec::new(),
    };
    for (field, request) in [
        ("image", from(&short, 0.5)),
        ("image", from(&none, 0.5)),
        ("strength", from(&whole, 0.0)),
        ("strength", from(&whole, 1.01)),
        ("strength", from(&whole, f64::NAN)),
    ] {
        match pipeline.generate(&request, &mut ()) {
            Err(Error::InvalidRequest { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn previews_are_sent_if_enabled_and_resemble_the_picture() {
    let pipeline = load("shapes");
    let request = Request {
        prompt: "a red circle on a blue background".into(),
        seed: 7,
        num_images: 2,
        ..Request::default()
    };
    let mut watcher = Watcher::default();
    let without_previews = pipeline.generate(&request, &mut watcher).unwrap();
    assert!(watcher.previews.is_empty());

    let request = Request {
        previews: true,
        ..request
    };
    let pictures = pipeline.generate(&request, &mut watcher).unwrap();
    assert!(pictures == without_previews, "previews change nothing");
    let at: Vec<u32> = watcher.previews.iter().map(|(step, _)| *step).collect();
    assert_eq!(at, [6, 11, 16, 26, 31, 36], "of 20 steps each");
    for (shown, (_, preview)) in watcher.previews.iter().enumerate() {
        assert_eq!((preview.width, preview.height), (8, 8));
        let away = difference(preview, &shrunk(&pictures[shown / 3]));
        println!("preview {shown}: {away:.1} of 255 away");
        assert!(away < 25.0, "preview {shown}: {away}");
    }
}

/// The mean of each 8 × 8 pixels.
fn shrunk(picture: &Picture) -> Picture {
    let (width, height) = (picture.width / 8, picture.height / 8);
    let mut rgb = Vec::new();
    for (y, x, channel) in
        (0..height).flat_map(|y| (0..width).flat_map(move |x| [0, 1, 2].map(|c| (y, x, c))))
    {
        let cell = (0..64).map(|at| {
            let (y, x) = (8 * y + at / 8, 8 * x + at % 8);
            u32::from(picture.rgb[(3 * (y * picture.width + x) + channel) as usize])
        });
        rgb.push((cell.sum::<u32>() / 64) as u8);
    }
    Picture { width, height, rgb }
}
