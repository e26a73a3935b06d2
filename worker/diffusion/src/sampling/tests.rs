//! Steps of the solvers, against the references' numbers.

use std::cell::Cell;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use tch::{Device, Kind};

use super::*;
use crate::manifest::BetaSchedule;

fn spec(predicts: PredictionType, beta_schedule: BetaSchedule) -> SchedulerSpec {
    let json = serde_json::json!({
        "allowed": [], "default": "ddim", "prediction_type": predicts, "beta_start": 0.00085,
        "beta_end": 0.012, "beta_schedule": beta_schedule, "steps_offset": 1,
    });
    serde_json::from_value(json).unwrap()
}

fn no_noise() -> Tensor {
    Tensor::zeros([1, 4, 1, 1], (Kind::Float, Device::Cpu))
}

#[test]
fn every_scheduler_goes_from_its_fewest_steps_to_its_most() {
    let predictions = [PredictionType::Epsilon, PredictionType::VPrediction];
    for kind in SchedulerKind::ALL {
        let (min, max) = (*kind.steps().start(), *kind.steps().end());
        for (steps, predicts) in [min, min + 1, max]
            .into_iter()
            .zip(predictions.iter().cycle())
        {
            let spec = spec(*predicts, BetaSchedule::ScaledLinear);
            let mut sampler = Sampler::new(kind, (steps, 0), 0, &spec);
            let noise = Tensor::ones([1, 4, 1, 1], (Kind::Float, Device::Cpu));
            let mut latents = sampler.initial(None, &noise);
            for call in sampler.calls() {
                let timestep = sampler.timestep(call);
                assert!((0.0..=1000.0).contains(&timestep), "{kind}: {timestep}");
                let input = sampler.model_input(&latents, call);
                latents = sampler.step(&(input * 0.1), call, &latents, &no_noise);
            }
            let result = latents.double_value(&[0, 0, 0, 0]);
            assert!(result.is_finite(), "{kind}, {steps} steps");
        }
    }
}

/// With a perfect UNet every scheduler reaches the picture, from any starting step. Only PNDM keeps
/// the noise of a step if it starts from a picture, as in diffusers.
#[test]
fn a_perfect_prediction_leads_back_to_the_picture_from_any_step() {
    let options = (Kind::Float, Device::Cpu);
    let picture = Tensor::full([1, 4, 1, 1], 0.7, options);
    let noise = Tensor::full([1, 4, 1, 1], -1.2, options);
    let starts = [(20, 0), (20, 4), (20, 13), (20, 18), (20, 19)];
    let kinds = SchedulerKind::ALL
        .into_iter()
        .filter(|kind| kind.supports_image());
    for (kind, (steps, skipped)) in kinds.flat_map(|kind| starts.map(|start| (kind, start))) {
        if kind == SchedulerKind::Pndm && skipped > 0 {
            continue;
        }
        let spec = spec(PredictionType::Epsilon, BetaSchedule::ScaledLinear);
        let schedule = NoiseSchedule::new(&spec);
        let mut sampler = Sampler::new(kind, (steps, skipped), 0, &spec);
        let mut latents = sampler.initial(Some(&picture), &noise);
        for call in sampler.calls() {
            let input = sampler.model_input(&latents, call);
            let sigma = spacing::interpolated(&schedule.sigmas(), sampler.timestep(call));
            let kept = (1.0 + sigma * sigma).recip().sqrt();
            let prediction = match kind {
                SchedulerKind::FlowMatchEuler => &noise - &picture,
                _ => (input - kept * &picture) / (1.0 - kept * kept).sqrt(),
            };
            if call % sampler.calls_per_step() == 0 {
                let seen = sampler.picture(&prediction, call, &latents);
                let off = (seen - &picture).abs().max().double_value(&[]);
                assert!(off < 1e-2, "{kind}, {skipped} of {steps} skipped: {off}");
            }
            latents = sampler.step(&prediction, call, &latents, &no_noise);
        }
        let off = (latents - &picture).abs().max().double_value(&[]);
        assert!(off < 0.1, "{kind}, {skipped} of {steps} skipped: {off}");
    }
}

/// What Python's diffusers computed; written by models/references/schedules.py.
#[derive(Deserialize)]
struct Reference {
    class: String,
    config: HashMap<String, Value>,
    steps: u32,
    skipped: u32,
    /// Tokens of the picture, for flows.
    #[serde(default)]
    tokens: u32,
    timesteps: Vec<f64>,
    initial: f64,
    result: Vec<f64>,
}

/// Relative L2 distance of equal computations, in single precision there and here.
const BOUND: f64 = 2e-5;

/// The numbers of a tensor that both sides compute alike.
fn wave(offset: f64) -> Tensor {
    let index = Tensor::arange(16, (Kind::Float, Device::Cpu));
    (index + offset).cos().view([1, 4, 2, 2])
}

fn sampler(reference: &Reference) -> Sampler {
    let Reference {
        class,
        steps,
        skipped,
        tokens,
        ..
    } = reference;
    let config = serde_json::to_string(&reference.config).unwrap();
    let (kind, spec) = crate::hugging_face::scheduler_of(class, &config).unwrap();
    Sampler::new(kind, (*steps, *skipped), *tokens, &spec)
}

fn computed(reference: &Reference) -> (Vec<f64>, f64, Tensor) {
    let mut sampler = sampler(reference);
    let timesteps = sampler.calls().map(|call| sampler.timestep(call)).collect();
    let initial = sampler.initial(None, &Tensor::from(1.0)).double_value(&[]);
    let picture = (reference.skipped > 0).then(|| wave(0.5));
    let mut latents = sampler.initial(picture.as_ref(), &wave(0.0));
    let draws = Cell::new(0.0);
    let noise = || {
        draws.set(draws.get() + 1.0);
        wave(draws.get())
    };
    for call in sampler.calls() {
        let input = sampler.model_input(&latents, call);
        let prediction = (input * 3.0 + sampler.timestep(call) / 200.0).sin() * 0.5;
        latents = sampler.step(&prediction, call, &latents, &noise);
    }
    (timesteps, initial, latents)
}

#[test]
fn schedules_and_solvers_agree_with_python() {
    let references: Vec<Reference> =
        serde_json::from_str(include_str!("../../tests/schedules.json")).unwrap();
    assert!(references.len() > 100);
    let failures: Vec<String> = references.iter().filter_map(difference).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Returns how a sampler differs from its reference, if it does.
fn difference(reference: &Reference) -> Option<String> {
    let Reference {
        class,
        config,
        steps,
        skipped,
        ..
    } = reference;
    let (timesteps, initial, latents) = computed(reference);
    let theirs = Tensor::from_slice(&reference.result).view([1, 4, 2, 2]);
    let distance = ((latents - &theirs).norm() / theirs.norm()).double_value(&[]);
    let same_timesteps = timesteps.len() == reference.timesteps.len()
        && (timesteps.iter().zip(&reference.timesteps)).all(|(a, b)| (a - b).abs() < 1e-2);
    let same_start = (initial / reference.initial - 1.0).abs() < 1e-5;
    let is_same = same_timesteps && same_start && distance < BOUND;
    (!is_same).then(|| {
        format!(
            "{class} {config:?}, {skipped} of {steps} steps skipped: {distance:e} away, initial \
             {initial} for {}, timesteps {timesteps:?} for {:?}",
            reference.initial, reference.timesteps
        )
    })
}
