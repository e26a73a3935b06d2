//! Guarantees of the engine: repeatable pictures, cancellation, errors that name the field.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::ops::ControlFlow;

use serde_json::json;
use support::{SmallModel, UNET, VAE, schedulers_of_unets};
use warmq_diffusion::{Error, Latents, LoadStep, Observer, Part, Pipeline, Request, SchedulerKind};

/// Counts the steps, and stops at one.
#[derive(Default)]
struct StopAt {
    stop: Option<u32>,
    seen: Vec<(u32, u32)>,
}

impl Observer for StopAt {
    fn step(&mut self, step: u32, steps: u32) -> ControlFlow<()> {
        self.seen.push((step, steps));
        if self.stop == Some(step) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

fn every_scheduler() -> SmallModel {
    let allowed = schedulers_of_unets();
    SmallModel::with(|manifest| manifest["scheduler"]["allowed"] = json!(allowed))
}

fn request(seed: u64) -> Request {
    Request {
        prompt: "a cat".into(),
        seed,
        ..Request::default()
    }
}

fn rgb(pipeline: &Pipeline, request: &Request) -> Vec<u8> {
    pipeline
        .generate(request, &mut ())
        .unwrap()
        .swap_remove(0)
        .rgb
}

#[test]
fn the_same_seed_draws_the_same_picture_and_another_seed_another() {
    let pipeline = SmallModel::new().load().unwrap();
    let first = rgb(&pipeline, &request(7));
    assert!(first == rgb(&pipeline, &request(7)));
    for other in [
        request(8),
        Request {
            prompt: "a dog".into(),
            ..request(7)
        },
        Request {
            negative_prompt: Some("a dog".into()),
            ..request(7)
        },
    ] {
        assert!(first != rgb(&pipeline, &other), "{other:?}");
    }
}

#[test]
fn a_picture_of_several_is_the_one_that_its_own_seed_gives() {
    let pipeline = SmallModel::new().load().unwrap();
    let three = pipeline
        .generate(
            &Request {
                num_images: 3,
                ..request(u64::MAX)
            },
            &mut (),
        )
        .unwrap();
    let alone = [u64::MAX, 0, 1].map(|seed| rgb(&pipeline, &request(seed)));
    assert_eq!(
        three
            .into_iter()
            .map(|picture| picture.rgb)
            .collect::<Vec<_>>(),
        alone
    );
}

#[test]
fn every_scheduler_draws_repeatably_from_its_fewest_steps_on() {
    let model = every_scheduler();
    let pipeline = model.load().unwrap();
    for kind in schedulers_of_unets() {
        for steps in [*kind.steps().start(), 3, 20] {
            let request = Request {
                steps: Some(steps),
                scheduler: Some(kind.to_string()),
                ..request(3)
            };
            let mut observer = StopAt::default();
            let picture = pipeline.generate(&request, &mut observer).unwrap();
            let (last, steps_said) = *observer.seen.last().unwrap();
            assert_eq!(last, steps_said, "{kind}");
            assert!(
                last >= steps && last <= 2 * steps,
                "{kind}: {last} calls for {steps} steps"
            );
            if steps == 20 {
                assert_eq!(
                    picture,
                    pipeline.generate(&request, &mut ()).unwrap(),
                    "{kind} draws differently again"
                );
            }
        }
    }
}

#[test]
fn schedulers_that_draw_noise_are_repeatable_beside_another_engine() {
    let model = every_scheduler();
    let draw = || {
        let pipeline = model.load().unwrap();
        let scheduler = Some(SchedulerKind::EulerAncestral.to_string());
        let requests = (0..20).map(|seed| Request {
            scheduler: scheduler.clone(),
            ..request(seed)
        });
        requests
            .map(|request| rgb(&pipeline, &request))
            .collect::<Vec<_>>()
    };
    let alone = draw();
    let same = std::thread::scope(|threads| {
        // Loading draws no numbers; a second engine draws its own.
        threads.spawn(|| (0..20).for_each(|_| drop(model.load().unwrap())));
        let beside = threads.spawn(draw);
        draw() == alone && beside.join().unwrap() == alone
    });
    assert!(same);
}

#[test]
fn breaking_at_a_step_cancels_before_the_next() {
    let pipeline = SmallModel::new().load().unwrap();
    for stop in [1, 3, 6] {
        let mut observer = StopAt {
            stop: Some(stop),
            ..StopAt::default()
        };
        let request = Request {
            num_images: 2,
            ..request(0)
        };
        assert!(matches!(
            pipeline.generate(&request, &mut observer),
            Err(Error::Cancelled)
        ));
        let expected: Vec<_> = (1..=stop).map(|step| (step, 8)).collect();
        assert_eq!(observer.seen, expected);
    }
    assert_eq!(
        rgb(&pipeline, &request(0)),
        rgb(&pipeline, &request(0)),
        "and leaves nothing behind"
    );
}

#[test]
fn a_request_out_of_bounds_names_its_field() {
    let pipeline = SmallModel::new().load().unwrap();
    let bad: [(&str, Request); 13] = [
        (
            "width",
            Request {
                width: Some(8),
                ..request(0)
            },
        ),
        (
            "width",
            Request {
                width: Some(20),
                ..request(0)
            },
        ),
        (
            "height",
            Request {
                height: Some(40),
                ..request(0)
            },
        ),
        (
            "height",
            Request {
                height: Some(u32::MAX),
                ..request(0)
            },
        ),
        (
            "steps",
            Request {
                steps: Some(0),
                ..request(0)
            },
        ),
        (
            "steps",
            Request {
                steps: Some(u32::MAX),
                ..request(0)
            },
        ),
        (
            "guidance",
            Request {
                guidance: Some(f64::NAN),
                ..request(0)
            },
        ),
        (
            "guidance",
            Request {
                guidance: Some(-1.0),
                ..request(0)
            },
        ),
        (
            "num_images",
            Request {
                num_images: 0,
                ..request(0)
            },
        ),
        (
            "num_images",
            Request {
                num_images: u32::MAX,
                ..request(0)
            },
        ),
        (
            "scheduler",
            Request {
                scheduler: Some("pndm".into()),
                ..request(0)
            },
        ),
        (
            "prompt",
            Request {
                prompt: "a".repeat(1 << 20),
                ..request(0)
            },
        ),
        (
            "negative_prompt",
            Request {
                negative_prompt: Some("a".repeat(1 << 20)),
                ..request(0)
            },
        ),
    ];
    for (expected, request) in bad {
        match pipeline.generate(&request, &mut ()) {
            Err(Error::InvalidRequest { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn any_text_is_a_prompt() {
    let pipeline = SmallModel::new().load().unwrap();
    for prompt in [
        "",
        " ",
        "\0",
        "<|endoftext|><|startoftext|>",
        "猫 🐈‍⬛ Ünïcödé",
        "\u{202e}\u{feff}",
        &"wörd ".repeat(2000),
    ] {
        let tokens = pipeline.tokens(prompt).unwrap();
        assert_eq!(tokens.len(), 8, "{prompt:?}");
        assert!(
            pipeline
                .generate(
                    &Request {
                        prompt: prompt.into(),
                        ..request(0)
                    },
                    &mut ()
                )
                .is_ok(),
            "{prompt:?}"
        );
    }
}

/// Keeps the final latents.
#[derive(Default)]
struct KeepLatents(Vec<Latents>);

impl Observer for KeepLatents {
    fn step(&mut self, _: u32, _: u32) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn latents(&mut self, latents: Latents) {
        self.0.push(latents);
    }
}

#[test]
fn given_latents_replace_the_noise_of_the_seed_and_determine_the_size() {
    let pipeline = SmallModel::new().load().unwrap();
    let mut kept = KeepLatents::default();
    let wide = Request {
        width: Some(32),
        ..request(1)
    };
    pipeline.generate(&wide, &mut kept).unwrap();
    let latents = kept.0.pop().unwrap();
    assert_eq!(latents.shape(), [1, 4, 2, 4]);
    let from = |seed: u64, latents: &Latents| Request {
        latents: Some(latents.clone()),
        ..request(seed)
    };
    let pictures = [1, 2].map(|seed| {
        let pictures = pipeline.generate(&from(seed, &latents), &mut ());
        pictures.unwrap().remove(0)
    });
    assert_eq!((pictures[0].width, pictures[0].height), (32, 16));
    assert_eq!(pictures[0], pictures[1]);
    let square = Request {
        width: Some(16),
        ..from(1, &latents)
    };
    assert_eq!(
        pipeline.generate(&square, &mut ()).unwrap_err().to_string(),
        "latents: their shape is [1, 4, 2, 4], but 16 x 16 pixels need [1, 4, 2, 2]"
    );
    let several = Request {
        num_images: 2,
        ..from(1, &latents)
    };
    assert!(pipeline.generate(&several, &mut ()).is_err());
}

#[test]
fn without_guidance_the_negative_prompt_has_no_effect() {
    let pipeline = SmallModel::new().load().unwrap();
    for guidance in [0.0, 1.0] {
        let plain = Request {
            guidance: Some(guidance),
            ..request(1)
        };
        let negative = Request {
            negative_prompt: Some("a dog".into()),
            ..plain.clone()
        };
        assert_eq!(rgb(&pipeline, &plain), rgb(&pipeline, &negative));
    }
}

#[test]
fn sizes_other_than_the_default_are_drawn() {
    let pipeline = SmallModel::new().load().unwrap();
    for (width, height) in [(24, 16), (16, 32), (24, 24)] {
        let request = Request {
            width: Some(width),
            height: Some(height),
            ..request(0)
        };
        let picture = pipeline.generate(&request, &mut ()).unwrap().swap_remove(0);
        assert_eq!((picture.width, picture.height), (width, height));
        assert_eq!(picture.rgb.len() as u32, 3 * width * height);
    }
}

#[test]
fn a_load_reports_its_progress_and_what_it_holds() {
    let model = SmallModel::new();
    let manifest = model.manifest().unwrap();
    let mut steps: Vec<LoadStep> = Vec::new();
    let pipeline = Pipeline::load(&manifest, &warmq_diffusion::Device::Cpu, &mut |step| {
        steps.push(step)
    })
    .unwrap();
    assert!(steps.is_sorted_by_key(|step| step.bytes));
    assert_eq!(
        (steps[0].part, steps[steps.len() - 1].part),
        (Part::TextEncoder, Part::Vae)
    );
    let last = steps[steps.len() - 1];
    assert_eq!(
        (last.bytes, last.total_bytes),
        (pipeline.memory_bytes(), pipeline.memory_bytes()),
        "stored as f32"
    );
    let files: u64 = [support::TEXT, UNET, VAE]
        .map(|file| fs::metadata(model.path(file)).unwrap().len())
        .iter()
        .sum();
    let sizes = Pipeline::weight_sizes(&manifest).unwrap();
    assert_eq!(
        sizes.on(warmq_diffusion::Device::Cpu),
        pipeline.memory_bytes()
    );
    assert!(sizes.stored_bytes < files, "headers are no weights");
}

#[test]
fn an_architecture_of_stable_diffusion_2_draws_too() {
    let model = SmallModel::with(|manifest| {
        manifest["dtype"] = json!("f16");
        manifest["text"]["activation"] = json!("gelu");
        manifest["tokenizer"]["pad"] = json!("!");
        manifest["unet"]["heads"] = json!([2, 4]);
        manifest["unet"]["use_linear_projection"] = json!(true);
        manifest["scheduler"]["prediction_type"] = json!("v_prediction");
    });
    let pipeline = model.load().unwrap();
    assert_eq!(pipeline.tokens("").unwrap()[2..], [0; 6], "padded with !");
    assert_eq!(rgb(&pipeline, &request(5)).len(), 3 * 16 * 16);
    let sizes = Pipeline::weight_sizes(&model.manifest().unwrap()).unwrap();
    assert_eq!(pipeline.memory_bytes(), sizes.cpu_bytes);
}
