//! The config of a FlowMatchEulerDiscreteScheduler.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{allowed, keys};
use crate::manifest::{FlowCurve, FlowMatchSpec, FlowShift, SigmaSpacing};

/// diffusers' names and defaults.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    num_train_timesteps: u32,
    shift: f64,
    use_dynamic_shifting: bool,
    base_shift: f64,
    max_shift: f64,
    base_image_seq_len: u32,
    max_image_seq_len: u32,
    shift_terminal: Option<f64>,
    use_karras_sigmas: Option<bool>,
    use_exponential_sigmas: Option<bool>,
    time_shift_type: FlowCurve,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            shift: 1.0,
            use_dynamic_shifting: false,
            base_shift: 0.5,
            max_shift: 1.15,
            base_image_seq_len: 256,
            max_image_seq_len: 4096,
            shift_terminal: None,
            use_karras_sigmas: None,
            use_exponential_sigmas: None,
            time_shift_type: FlowCurve::Exponential,
        }
    }
}

const READ: [&str; 11] = [
    "num_train_timesteps",
    "shift",
    "use_dynamic_shifting",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "shift_terminal",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "time_shift_type",
];

/// # Errors
/// A sentence that names the first key that is not supported.
pub(super) fn read(config: &Map<String, Value>) -> Result<FlowMatchSpec, String> {
    let fixed = json!({
        "invert_sigmas": [false],
        "stochastic_sampling": [false],
        "use_beta_sigmas": [false, null],
    });
    allowed::check(config, &READ, &fixed)?;
    let config: Config = keys::parsed(config)?;
    let is_set = |flag: Option<bool>| flag == Some(true);
    Ok(FlowMatchSpec {
        num_train_timesteps: config.num_train_timesteps,
        shift: match config.use_dynamic_shifting {
            false => FlowShift::Fixed(config.shift),
            true => FlowShift::BySize {
                base_shift: config.base_shift,
                max_shift: config.max_shift,
                base_tokens: config.base_image_seq_len,
                max_tokens: config.max_image_seq_len,
                curve: config.time_shift_type,
            },
        },
        // Python takes 0 for none, too.
        shift_terminal: config.shift_terminal.filter(|&terminal| terminal != 0.0),
        sigma_spacing: match (
            is_set(config.use_karras_sigmas),
            is_set(config.use_exponential_sigmas),
        ) {
            (true, true) => {
                return Err("use_karras_sigmas excludes use_exponential_sigmas".to_owned());
            }
            (true, false) => SigmaSpacing::Karras,
            (false, true) => SigmaSpacing::Exponential,
            (false, false) => SigmaSpacing::Timesteps,
        },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_not_computed_refuses_the_scheduler_by_name() {
        for (key, value) in [
            ("invert_sigmas", json!(true)),
            ("stochastic_sampling", json!(true)),
            ("use_beta_sigmas", json!(true)),
            ("use_karras_sigmas", json!(true)),
            ("a_key_of_tomorrow", json!(null)),
        ] {
            let config = json!({"use_exponential_sigmas": true, key: value});
            let message = read(config.as_object().unwrap()).unwrap_err();
            assert!(message.contains(key), "{message}");
        }
        let config = json!({"time_shift_type": "cubic"});
        let message = read(config.as_object().unwrap()).unwrap_err();
        assert!(message.contains("cubic"), "{message}");
    }
}
