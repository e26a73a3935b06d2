//! Default steps and guidance, which no config has: those of diffusers' pipelines, except for
//! models that were distilled to few steps.

use crate::manifest::{Defaults, PredictionType, SchedulerSpec, TimestepSpacing};
use crate::scheduler::SchedulerKind;

/// Steps of diffusers' pipelines with a UNet.
const STEPS: u32 = 50;

/// Steps of a distilled model whose name has no number of them: the cards of Stable Diffusion's
/// turbo models have 1 to 4, those of lightning and LCM 4 to 8.
const FEW_STEPS: u32 = 4;

/// Numbers of steps that a distilled model's name may have.
const NAMED_STEPS: std::ops::RangeInclusive<u32> = 1..=16;

/// Returns the defaults of a model with a UNet. `guidance`: that of the family's pipeline.
pub(crate) fn of_unet(guidance: f64, scheduler: &SchedulerSpec, model: &str) -> Defaults {
    let guidance = match scheduler.default {
        SchedulerKind::Lcm => 1.0,
        _ if is_distilled(scheduler) || is_named_distilled(model) => 0.0,
        _ => {
            return Defaults {
                steps: STEPS,
                guidance,
            };
        }
    };
    let least = *scheduler.default.steps().start();
    Defaults {
        steps: steps_of_name(model).unwrap_or(FEW_STEPS).max(least),
        guidance,
    }
}

/// Returns whether a schedule is that of Stable Diffusion's turbo models. Models of velocity, and
/// those without signal at the last timestep, have its spacing for other reasons.
fn is_distilled(scheduler: &SchedulerSpec) -> bool {
    scheduler.timestep_spacing == Some(TimestepSpacing::Trailing)
        && scheduler.prediction_type == PredictionType::Epsilon
        && !scheduler.rescale_betas_zero_snr
}

/// Returns whether a model's name says that it was distilled to few steps.
pub(crate) fn is_named_distilled(model: &str) -> bool {
    words(model).iter().any(|word| {
        ["turbo", "lightning"]
            .iter()
            .any(|begin| word.starts_with(begin))
            || ["hyper", "lcm"].contains(&word.as_str())
    })
}

/// Returns the number before `step` or `steps`.
fn steps_of_name(model: &str) -> Option<u32> {
    let words = words(model);
    let numbers = words.iter().enumerate().filter_map(|(index, word)| {
        let number = word.strip_suffix("steps").or(word.strip_suffix("step"))?;
        match number {
            "" => words.get(index.checked_sub(1)?)?.parse().ok(),
            number => number.parse().ok(),
        }
    });
    numbers
        .into_iter()
        .find(|steps| NAMED_STEPS.contains(steps))
}

fn words(name: &str) -> Vec<String> {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words.map(str::to_ascii_lowercase).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::hugging_face::scheduler_of;

    fn defaults(class: &str, key: &str, value: &str, model: &str) -> (u32, f64) {
        let config = format!(
            r#"{{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
                "skip_prk_steps": true, "{key}": {value}}}"#
        );
        let (_, scheduler) = scheduler_of(class, &config).unwrap();
        let Defaults { steps, guidance } = of_unet(7.5, &scheduler, model);
        (steps, guidance)
    }

    #[test]
    fn the_scheduler_shows_that_a_model_was_distilled() {
        let spacing = "timestep_spacing";
        for (class, key, value, expected) in [
            ("PNDMScheduler", spacing, r#""leading""#, (50, 7.5)),
            (
                "EulerAncestralDiscreteScheduler",
                spacing,
                r#""trailing""#,
                (4, 0.0),
            ),
            ("EulerDiscreteScheduler", spacing, r#""trailing""#, (4, 0.0)),
            ("LCMScheduler", spacing, r#""leading""#, (4, 1.0)),
            (
                "EulerDiscreteScheduler",
                "prediction_type",
                r#""v_prediction""#,
                (50, 7.5),
            ),
        ] {
            assert_eq!(
                defaults(class, key, value, "model"),
                expected,
                "{class} {value}"
            );
        }
        let config = r#""trailing", "rescale_betas_zero_snr": true"#;
        assert_eq!(
            defaults("DDIMScheduler", spacing, config, "model"),
            (50, 7.5)
        );
    }

    #[test]
    fn a_name_shows_it_as_well_and_may_have_the_number_of_steps() {
        for (model, expected) in [
            ("sd_xl_turbo_1.0_fp16", (4, 0.0)),
            ("ByteDance/SDXL-Lightning-8step", (8, 0.0)),
            ("sdxl_lightning_2step", (2, 0.0)),
            ("dreamshaperXL_turboDpmppSDE", (4, 0.0)),
            ("Hyper-SDXL-8-steps", (8, 0.0)),
            ("lcm-dreamshaper", (4, 0.0)),
            ("hyperrealistic", (50, 7.5)),
            ("hyper-999steps", (4, 0.0)),
            ("a-model-of-8-steps", (50, 7.5)),
        ] {
            let defaults = defaults("EulerDiscreteScheduler", "use_karras_sigmas", "true", model);
            assert_eq!(defaults, expected, "{model}");
        }
        // Schedulers of diffusers-rs need two.
        let one = defaults(
            "KDPM2DiscreteScheduler",
            "use_karras_sigmas",
            "false",
            "turbo-1step",
        );
        assert_eq!(one, (2, 0.0));
    }
}
