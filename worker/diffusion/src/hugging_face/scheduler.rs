//! A scheduler's config: every key is supported, or has a value that changes nothing, or refuses
//! the model by name.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{allowed, flow_match, keys};
use crate::manifest::{
    BetaSchedule, DpmAlgorithm, DpmSolverType, PredictionType, SchedulerSpec, SigmaSpacing,
    UniPcSolver, UniPcSpec,
};
use crate::scheduler::SchedulerKind;

/// The class for FLUX.1.
pub(super) const FLOW_MATCH: &str = "FlowMatchEulerDiscreteScheduler";

/// The keys that [`SchedulerSpec`] has, with Hugging Face's names and values.
#[derive(Deserialize)]
struct Config {
    #[serde(default = "epsilon")]
    prediction_type: PredictionType,
    beta_start: f64,
    beta_end: f64,
    beta_schedule: BetaSchedule,
}

fn epsilon() -> PredictionType {
    PredictionType::Epsilon
}

/// Keys that [`SchedulerSpec`] reads under the same name.
const SAME: [&str; 13] = [
    "num_train_timesteps",
    "steps_offset",
    "trained_betas",
    "rescale_betas_zero_snr",
    "timestep_spacing",
    "set_alpha_to_one",
    "final_sigmas_type",
    "solver_order",
    "lower_order_final",
    "euler_at_final",
    "lambda_min_clipped",
    "original_inference_steps",
    "timestep_scaling",
];

/// Those of them of which null is false, as in Python; without the key, the class has a default.
const FLAGS: [&str; 4] = [
    "rescale_betas_zero_snr",
    "set_alpha_to_one",
    "lower_order_final",
    "euler_at_final",
];

/// Keys that have an effect only together with others, which are refused, or that belong to other
/// schedulers.
const WITHOUT_EFFECT: [&str; 5] = [
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "flow_shift",
    "time_shift_type",
    "skip_prk_steps",
];

/// Keys that are read here.
const READ: [&str; 12] = [
    "clip_sample",
    "clip_sample_range",
    "prediction_type",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "algorithm_type",
    "solver_type",
    "predict_x0",
    "disable_corrector",
];

/// Reads the config of a scheduler class.
///
/// # Errors
/// A sentence that names the class, or the key, that is not supported.
pub(crate) fn read(
    class: &str,
    config: &Map<String, Value>,
) -> Result<(SchedulerKind, SchedulerSpec), String> {
    if class == FLOW_MATCH {
        let flow = flow_match::read(config)?;
        return Ok((SchedulerKind::FlowMatchEuler, SchedulerSpec::of_flow(flow)));
    }
    let kind = kind(class).ok_or_else(|| format!("{class} is not supported"))?;
    check(kind, config)?;
    let read: Config = keys::parsed(config)?;
    let is_set = |key: &str| config.get(key) == Some(&Value::Bool(true));
    let mut spec: Map<String, Value> = SAME
        .iter()
        .filter_map(|&key| {
            let value = match config.get(key)? {
                Value::Null if FLAGS.contains(&key) => Value::Bool(false),
                value => value.clone(),
            };
            Some((key.to_owned(), value))
        })
        .filter(|(_, value)| !value.is_null())
        .collect();
    spec.insert("allowed".to_owned(), Value::Array(Vec::new()));
    spec.insert("default".to_owned(), kind.name().into());
    for (key, value) in [
        (
            "prediction_type",
            serde_json::to_value(read.prediction_type),
        ),
        ("beta_start", serde_json::to_value(read.beta_start)),
        ("beta_end", serde_json::to_value(read.beta_end)),
        ("beta_schedule", serde_json::to_value(read.beta_schedule)),
    ] {
        spec.insert(key.to_owned(), value.map_err(|error| error.to_string())?);
    }
    let spec: SchedulerSpec = keys::parsed(&spec)?;
    let mut spec = SchedulerSpec {
        clip_sample: clip_sample(kind, config)?,
        sigma_spacing: match (
            is_set("use_karras_sigmas"),
            is_set("use_exponential_sigmas"),
        ) {
            (true, _) => SigmaSpacing::Karras,
            (false, true) => SigmaSpacing::Exponential,
            (false, false) => SigmaSpacing::Timesteps,
        },
        algorithm_type: algorithm(config)?,
        solver_type: match config.get("solver_type").and_then(Value::as_str) {
            Some("heun") => DpmSolverType::Heun,
            // diffusers replaces the names of other solvers.
            _ => DpmSolverType::Midpoint,
        },
        unipc: unipc(kind, config)?,
        ..spec
    };
    spec.allowed = SchedulerKind::ALL
        .into_iter()
        .filter(|&kind| spec.allows(kind))
        .collect();
    match spec.setting_beyond(kind) {
        Some(key) => Err(format!("{key}: of {class} only the default is supported")),
        None => Ok((kind, spec)),
    }
}

/// Returns the bound of the predicted picture. Two classes have one unless their config says no.
fn clip_sample(kind: SchedulerKind, config: &Map<String, Value>) -> Result<Option<f64>, String> {
    let by_default = matches!(kind, SchedulerKind::Ddim | SchedulerKind::Ddpm);
    let clips = match config.get("clip_sample") {
        None => by_default,
        Some(Value::Null) => false,
        Some(Value::Bool(clips)) => *clips,
        Some(other) => return Err(format!("clip_sample: {other} is not supported")),
    };
    let range = match config.get("clip_sample_range") {
        None => 1.0,
        Some(range) => match range.as_f64() {
            Some(range) if range > 0.0 => range,
            _ if !clips => 1.0,
            _ => return Err(format!("clip_sample_range: {range} is not supported")),
        },
    };
    Ok(clips.then_some(range))
}

fn kind(class: &str) -> Option<SchedulerKind> {
    Some(match class {
        "DDIMScheduler" => SchedulerKind::Ddim,
        "DDPMScheduler" => SchedulerKind::Ddpm,
        "DPMSolverMultistepScheduler" => SchedulerKind::DpmSolverPlusPlus,
        "EulerDiscreteScheduler" => SchedulerKind::Euler,
        "EulerAncestralDiscreteScheduler" => SchedulerKind::EulerAncestral,
        "HeunDiscreteScheduler" => SchedulerKind::Heun,
        "KDPM2DiscreteScheduler" => SchedulerKind::Kdpm2,
        "KDPM2AncestralDiscreteScheduler" => SchedulerKind::Kdpm2Ancestral,
        "LCMScheduler" => SchedulerKind::Lcm,
        "LMSDiscreteScheduler" => SchedulerKind::Lms,
        "PNDMScheduler" => SchedulerKind::Pndm,
        "UniPCMultistepScheduler" => SchedulerKind::UniPc,
        _ => return None,
    })
}

/// # Errors
/// A sentence that names the first key that is not supported.
fn check(kind: SchedulerKind, config: &Map<String, Value>) -> Result<(), String> {
    let fixed = json!({
        "interpolation_type": ["linear", null],
        "sigma_max": [null],
        "shift_terminal": [null],
        "sigma_min": [null],
        "solver_p": [null],
        "thresholding": [false, null],
        "timestep_type": ["discrete", null],
        "use_beta_sigmas": [false, null],
        "use_dynamic_shifting": [false, null],
        "use_flow_sigmas": [false, null],
        "use_lu_lambdas": [false, null],
        "variance_type": ["fixed_small", null],
    });
    let read = [SAME.as_slice(), &READ, &WITHOUT_EFFECT].concat();
    allowed::check(config, &read, &fixed)?;
    let skips_runge_kutta = config.get("skip_prk_steps") == Some(&Value::Bool(true));
    if kind == SchedulerKind::Pndm && !skips_runge_kutta {
        return Err("skip_prk_steps: only true is supported".to_owned());
    }
    Ok(())
}

/// Returns UniPC's settings, also for a request that uses it instead of the model's scheduler.
fn unipc(kind: SchedulerKind, config: &Map<String, Value>) -> Result<UniPcSpec, String> {
    let solver = match config.get("solver_type").and_then(Value::as_str) {
        Some("bh1") => UniPcSolver::Bh1,
        // diffusers replaces the names of other schedulers' solvers.
        None | Some("bh2" | "midpoint" | "heun" | "logrho") => UniPcSolver::Bh2,
        Some(other) if kind == SchedulerKind::UniPc => {
            return Err(format!("solver_type: {other} is not supported"));
        }
        Some(_) => UniPcSolver::Bh2,
    };
    let steps = config
        .get("disable_corrector")
        .filter(|steps| !steps.is_null());
    let steps = steps.map_or(Ok(Vec::new()), |steps| {
        serde_json::from_value(steps.clone())
    });
    Ok(UniPcSpec {
        solver,
        predict_x0: config.get("predict_x0") != Some(&Value::Bool(false)),
        disable_corrector: steps.map_err(|error| format!("disable_corrector: {error}"))?,
    })
}

fn algorithm(config: &Map<String, Value>) -> Result<DpmAlgorithm, String> {
    match config.get("algorithm_type").and_then(Value::as_str) {
        // diffusers replaces deis.
        None | Some("dpmsolver++" | "deis") => Ok(DpmAlgorithm::DpmSolverPlusPlus),
        Some("sde-dpmsolver++") => Ok(DpmAlgorithm::SdeDpmSolverPlusPlus),
        Some(other) => Err(format!("algorithm_type: {other} is not supported")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn config(key: &str, value: Value) -> Map<String, Value> {
        let config = json!({
            "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
            "skip_prk_steps": true, key: value,
        });
        config.as_object().unwrap().clone()
    }

    #[test]
    fn a_setting_that_is_not_computed_refuses_the_scheduler_by_name() {
        for (key, value) in [
            ("thresholding", json!(true)),
            ("use_beta_sigmas", json!(true)),
            ("use_flow_sigmas", json!(true)),
            ("interpolation_type", json!("log_linear")),
            ("timestep_type", json!("continuous")),
            ("sigma_max", json!(80.0)),
            ("algorithm_type", json!("dpmsolver")),
            ("beta_schedule", json!("exponential")),
            ("prediction_type", json!("sample")),
            ("timestep_spacing", json!("cosine")),
            ("solver_order", json!("two")),
            ("clip_sample", json!("yes")),
            ("steps_offset", json!(-1)),
            ("trained_betas", json!({"first": 0.1})),
            ("a_key_of_tomorrow", json!(1)),
        ] {
            let message = read("DPMSolverMultistepScheduler", &config(key, value)).unwrap_err();
            assert!(message.contains(key), "{key}: {message}");
        }
        let message = read("PNDMScheduler", &config("skip_prk_steps", json!(false))).unwrap_err();
        assert!(message.contains("skip_prk_steps"), "{message}");
        for (key, value) in [
            ("solver_type", json!("bh3")),
            ("use_flow_sigmas", json!(true)),
            ("solver_p", json!({})),
            ("shift_terminal", json!(0.1)),
            ("disable_corrector", json!(["first"])),
        ] {
            let message = read("UniPCMultistepScheduler", &config(key, value)).unwrap_err();
            assert!(message.contains(key), "{key}: {message}");
        }
        let message = read("TCDScheduler", &config("eta", json!(0.3))).unwrap_err();
        assert!(message.contains("TCDScheduler"), "{message}");
    }

    #[test]
    fn schedulers_that_lack_a_setting_are_not_allowed() {
        let karras = config("use_karras_sigmas", json!(true));
        let (_, spec) = read("EulerDiscreteScheduler", &karras).unwrap();
        assert!(spec.allowed.contains(&SchedulerKind::Heun));
        assert!(!spec.allowed.contains(&SchedulerKind::Lms));
        let message = read("LMSDiscreteScheduler", &karras).unwrap_err();
        assert!(message.contains("use_karras_sigmas"), "{message}");
        let trailing = config("timestep_spacing", json!("trailing"));
        let message = read("KDPM2DiscreteScheduler", &trailing).unwrap_err();
        assert!(message.contains("timestep_spacing"), "{message}");
    }

    #[test]
    fn null_is_false_although_the_class_has_another_default() {
        let set_alpha = |config: &Map<String, Value>| {
            let (_, spec) = read("DDIMScheduler", config).unwrap();
            spec.set_alpha_to_one
        };
        let null = config("set_alpha_to_one", Value::Null);
        assert_eq!(set_alpha(&null), Some(false));
        assert_eq!(set_alpha(&config("beta_start", json!(0.001))), None);
    }

    #[test]
    fn the_bound_of_the_picture_is_the_configs_or_the_classs() {
        let bound = |class: &str, key: &str, value: Value| {
            read(class, &config(key, value)).unwrap().1.clip_sample
        };
        let range = || ("clip_sample_range", json!(2.0));
        let (key, value) = range();
        assert_eq!(bound("DDIMScheduler", key, value), Some(2.0));
        let (key, value) = range();
        assert_eq!(bound("LCMScheduler", key, value), None);
        assert_eq!(bound("DDPMScheduler", "clip_sample", json!(false)), None);
        assert_eq!(bound("DDPMScheduler", "clip_sample", json!(null)), None);
        assert_eq!(
            bound("HeunDiscreteScheduler", "clip_sample", json!(true)),
            Some(1.0)
        );
    }
}
