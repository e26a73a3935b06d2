//! Parts of a picture are redrawn as by Python's diffusers, by UNets made for it and by others.
//! models/references/inpainting.py wrote the references, with tiny networks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use support::keyed_model::{KeyedModel, references, tensor};
use support::reference::Reference;
use warmq_diffusion::{Error, Mask, Picture, Pipeline, Request, Start};

const SIDE: u32 = 64;

fn reference(name: &str) -> Reference {
    Reference::read(&references().join(format!("{name}.safetensors")))
}

/// A request with a picture and a mask of any content, for tests that give their latents.
fn request(reference: &Reference, strength: Option<f64>) -> Request {
    Request {
        prompt: reference.fact("prompt").to_owned(),
        steps: reference.fact("steps").parse().ok(),
        guidance: reference.fact("guidance").parse().ok(),
        strength,
        ..masked(|_, _| true)
    }
}

/// A request to redraw a grey picture where `is_redrawn` for x and y.
fn masked(is_redrawn: fn(u32, u32) -> bool) -> Request {
    let pixels = (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (x, y)));
    Request {
        prompt: "a red circle".to_owned(),
        image: Some(Picture {
            width: SIDE,
            height: SIDE,
            rgb: vec![90; 3 * (SIDE * SIDE) as usize],
        }),
        mask: Some(Mask {
            width: SIDE,
            height: SIDE,
            luma: pixels
                .map(|(x, y)| 255 * u8::from(is_redrawn(x, y)))
                .collect(),
        }),
        steps: Some(3),
        ..Request::default()
    }
}

fn agrees_with_python(pipeline: &Pipeline, reference: &Reference, prefix: &str, takes_mask: bool) {
    let stored = |name: &str| reference.tensors[&format!("{prefix}{name}")].shallow_clone();
    let start = Start {
        latents: stored("encoded"),
        mask: Some(stored("mask")),
        masked: takes_mask.then(|| stored("masked")),
    };
    let strength = reference.fact("strength").parse().ok();
    for (name, strength) in [("filled", None), ("varied", strength)] {
        let request = request(reference, strength);
        let prompts = pipeline.encode(&request).unwrap();
        let redrawn = pipeline.redraw(&start, &stored("noise"), &prompts, &request);
        reference.holds(&format!("{prefix}{name}"), &redrawn.unwrap());
    }
}

#[test]
fn a_unet_that_takes_a_mask_agrees_with_python() {
    let reference = reference("inpainting");
    let pipeline = KeyedModel::new("inpainting").load().unwrap();
    agrees_with_python(&pipeline, &reference, "", true);
    let picture = tensor("picture", &[1, 3, 64, 80]).clamp(-1.0, 1.0);
    let seed = reference.fact("encoding_seed").parse().unwrap();
    let encoded = pipeline.encode_picture(&picture, seed).unwrap();
    reference.holds("encoded", &encoded);
}

#[test]
fn any_other_unet_agrees_with_python() {
    let pipeline = KeyedModel::new("sdxl").load().unwrap();
    agrees_with_python(&pipeline, &reference("sdxl"), "inpainting_", false);
}

/// The decoder's attention changes every pixel a little.
#[test]
fn what_the_mask_does_not_cover_stays() {
    let pipeline = support::load("shapes");
    let draw = |request: &Request| pipeline.generate(request, &mut ()).unwrap().remove(0);
    let left = draw(&masked(|x, _| x < SIDE / 2));
    let nothing = draw(&masked(|_, _| false));
    let mean_difference = |from: u32, to: u32| {
        let pixels = (from..to).flat_map(|x| (0..SIDE).map(move |y| 3 * (y * SIDE + x) as usize));
        let differences = pixels.map(|at| left.rgb[at].abs_diff(nothing.rgb[at]));
        let sum: u32 = differences.map(u32::from).sum();
        f64::from(sum) / f64::from((to - from) * SIDE)
    };
    let (redrawn, kept) = (
        mean_difference(0, SIDE / 2),
        mean_difference(SIDE * 3 / 4, SIDE),
    );
    assert!(
        redrawn > 20.0 && kept < redrawn / 3.0,
        "{redrawn} and {kept}"
    );
}

#[test]
fn what_is_missing_or_too_much_is_named() {
    let model = KeyedModel::new("inpainting").load().unwrap();
    let shapes = support::load("shapes");
    let fault = |pipeline: &Pipeline, request: Request| match pipeline
        .generate(&request, &mut ())
        .unwrap_err()
    {
        Error::InvalidRequest { field, .. } => field,
        other => panic!("{other}"),
    };
    let whole = || masked(|_, _| true);
    let without_picture = Request {
        image: None,
        ..whole()
    };
    let without_mask = Request {
        mask: None,
        ..whole()
    };
    let mut short = whole();
    short.mask.as_mut().unwrap().luma.pop();
    assert_eq!(fault(&shapes, without_picture.clone()), "image");
    assert_eq!(fault(&model, without_picture), "image");
    assert_eq!(fault(&model, without_mask), "mask");
    assert_eq!(fault(&shapes, short), "mask");
    assert_eq!(fault(&model, Request::default()), "mask");
}
