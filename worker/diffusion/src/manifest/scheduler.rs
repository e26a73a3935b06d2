//! The noise schedule of a model.

use serde::{Deserialize, Serialize};

use super::UniPcSpec;
use crate::scheduler::SchedulerKind;

/// The noise schedule of the model's training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchedulerSpec {
    /// The allowed schedulers.
    pub allowed: Vec<SchedulerKind>,
    /// The default scheduler.
    pub default: SchedulerKind,
    /// What the UNet predicts.
    pub prediction_type: PredictionType,
    /// Variance of the first training step's noise.
    pub beta_start: f64,
    /// Variance of the last training step's noise.
    pub beta_end: f64,
    /// Growth of the variance in between.
    pub beta_schedule: BetaSchedule,
    /// Offset added to each timestep of schedulers that count from the start of training, 0 or 1.
    /// Python's pipelines of Stable Diffusion set it to 1, those of XL do not.
    #[serde(default)]
    pub steps_offset: usize,
    /// Timesteps of the training.
    #[serde(default = "default_train_timesteps")]
    pub num_train_timesteps: u32,
    /// Variance of each training step's noise, instead of the three values above.
    #[serde(default)]
    pub trained_betas: Option<Vec<f64>>,
    /// Whether the variances are rescaled so that the last timestep has no signal.
    #[serde(default)]
    pub rescale_betas_zero_snr: bool,
    /// Which timesteps a number of steps visits; each scheduler has its own default.
    #[serde(default)]
    pub timestep_spacing: Option<TimestepSpacing>,
    /// Bound of the predicted picture's latents, for DDIM, DDPM, Heun and LCM. Python's pipelines
    /// of Stable Diffusion remove it, those of inpainting and XL do not.
    #[serde(default)]
    pub clip_sample: Option<f64>,
    /// Whether the last step of DDIM and PNDM ends without noise; each has its own default.
    #[serde(default)]
    pub set_alpha_to_one: Option<bool>,
    /// Noise levels of Euler, Heun, DPM-Solver++ and UniPC.
    #[serde(default)]
    pub sigma_spacing: SigmaSpacing,
    /// Noise level after the last step of Euler, DPM-Solver++ and UniPC.
    #[serde(default)]
    pub final_sigmas_type: FinalSigma,
    /// Variant of DPM-Solver++.
    #[serde(default)]
    pub algorithm_type: DpmAlgorithm,
    /// Steps of DPM-Solver++ or UniPC of which each one makes use, 1 to 3.
    #[serde(default = "default_solver_order")]
    pub solver_order: usize,
    /// Second order of DPM-Solver++.
    #[serde(default)]
    pub solver_type: DpmSolverType,
    /// Whether DPM-Solver++ lowers the order of the last of few steps, and UniPC of the last steps.
    #[serde(default = "default_true")]
    pub lower_order_final: bool,
    /// Whether the last step of DPM-Solver++ is of order 1.
    #[serde(default)]
    pub euler_at_final: bool,
    /// Lower bound of half of the logarithm of the signal-to-noise ratio, for DPM-Solver++.
    #[serde(default = "unbounded", with = "lowest")]
    pub lambda_min_clipped: f64,
    /// Settings of UniPC.
    #[serde(default)]
    pub unipc: UniPcSpec,
    /// Timesteps of the distillation, for LCM.
    #[serde(default = "default_original_steps")]
    pub original_inference_steps: usize,
    /// Factor of timesteps in LCM's boundary condition.
    #[serde(default = "default_timestep_scaling")]
    pub timestep_scaling: f64,
    /// A flow, instead of all settings above; for the scheduler `flow-match-euler` only.
    #[serde(default)]
    pub flow: Option<FlowMatchSpec>,
}

impl SchedulerSpec {
    /// Returns the spec of a flow. The settings of noise schedules are diffusers' defaults, without
    /// effect.
    pub fn of_flow(flow: FlowMatchSpec) -> Self {
        Self {
            allowed: vec![SchedulerKind::FlowMatchEuler],
            default: SchedulerKind::FlowMatchEuler,
            prediction_type: PredictionType::Epsilon,
            beta_start: 0.0001,
            beta_end: 0.02,
            beta_schedule: BetaSchedule::Linear,
            steps_offset: 0,
            num_train_timesteps: default_train_timesteps(),
            trained_betas: None,
            rescale_betas_zero_snr: false,
            timestep_spacing: None,
            clip_sample: None,
            set_alpha_to_one: None,
            sigma_spacing: SigmaSpacing::Timesteps,
            final_sigmas_type: FinalSigma::Zero,
            algorithm_type: DpmAlgorithm::DpmSolverPlusPlus,
            solver_order: default_solver_order(),
            solver_type: DpmSolverType::Midpoint,
            lower_order_final: true,
            euler_at_final: false,
            lambda_min_clipped: unbounded(),
            unipc: UniPcSpec::default(),
            original_inference_steps: default_original_steps(),
            timestep_scaling: default_timestep_scaling(),
            flow: Some(flow),
        }
    }

    /// Returns whether a scheduler computes this noise schedule or flow.
    pub fn allows(&self, kind: SchedulerKind) -> bool {
        if self.flow.is_some() || kind.needs_flow() {
            return self.flow.is_some() && kind.needs_flow();
        }
        self.setting_beyond(kind).is_none()
    }

    /// Returns the first setting of the noise schedule that a scheduler does not compute:
    /// diffusers-rs has only Hugging Face's defaults.
    pub(crate) fn setting_beyond(&self, kind: SchedulerKind) -> Option<&'static str> {
        use SchedulerKind::{Kdpm2, Kdpm2Ancestral, Lms};
        if ![Kdpm2, Kdpm2Ancestral, Lms].contains(&kind) {
            return None;
        }
        let defaults = [
            (
                "num_train_timesteps",
                self.num_train_timesteps == default_train_timesteps(),
            ),
            ("trained_betas", self.trained_betas.is_none()),
            ("rescale_betas_zero_snr", !self.rescale_betas_zero_snr),
            (
                "use_karras_sigmas",
                self.sigma_spacing != SigmaSpacing::Karras,
            ),
            (
                "use_exponential_sigmas",
                self.sigma_spacing != SigmaSpacing::Exponential,
            ),
            (
                "beta_schedule",
                self.beta_schedule != BetaSchedule::SquaredcosCapV2,
            ),
            (
                "timestep_spacing",
                matches!(
                    self.timestep_spacing,
                    None | Some(TimestepSpacing::Linspace)
                ),
            ),
        ];
        let found = defaults.into_iter().find(|(_, is_default)| !is_default);
        found.map(|(key, _)| key)
    }
}

fn default_train_timesteps() -> u32 {
    1000
}

fn default_solver_order() -> usize {
    2
}

fn default_true() -> bool {
    true
}

fn unbounded() -> f64 {
    f64::NEG_INFINITY
}

fn default_original_steps() -> usize {
    50
}

fn default_timestep_scaling() -> f64 {
    10.0
}

/// JSON has no infinity: null stands for it.
mod lowest {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(value).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NEG_INFINITY))
    }
}

/// Which timesteps a number of steps visits (Lin et al., 2023, table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// From the last to the first, evenly.
    Linspace,
    /// Multiples of a whole number from the first on; never the last.
    Leading,
    /// Multiples of a number from the last on; never the first.
    Trailing,
}

/// Noise levels of a number of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigmaSpacing {
    /// Those of the timesteps.
    #[default]
    Timesteps,
    /// Denser towards the end (Karras et al., 2022).
    Karras,
    /// Evenly spaced logarithms.
    Exponential,
}

/// The noise level after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigma {
    /// None.
    #[default]
    Zero,
    /// That of the first training step.
    SigmaMin,
}

/// Variant of DPM-Solver++.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DpmAlgorithm {
    /// Without noise between the steps.
    #[default]
    #[serde(rename = "dpmsolver++")]
    DpmSolverPlusPlus,
    /// With noise between the steps.
    #[serde(rename = "sde-dpmsolver++")]
    SdeDpmSolverPlusPlus,
}

/// Second order of DPM-Solver++.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DpmSolverType {
    /// By the middle of the step.
    #[default]
    Midpoint,
    /// By both ends of the step.
    Heun,
}

/// What a UNet predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// The noise.
    Epsilon,
    /// The velocity between noise and picture (Salimans and Ho, 2022).
    VPrediction,
}

/// Growth of the noise's variance over the training steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// Linear growth.
    Linear,
    /// Linear growth of the square root.
    ScaledLinear,
    /// By a squared cosine of the time (Nichol and Dhariwal, 2021).
    SquaredcosCapV2,
}

/// The noise levels of a flow between noise and picture (Lipman et al., 2023; Esser et al., 2024).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowMatchSpec {
    /// Timesteps of the training.
    #[serde(default = "default_train_timesteps")]
    pub num_train_timesteps: u32,
    /// How noise levels are moved towards noise.
    pub shift: FlowShift,
    /// Noise level before the last step, to which the levels are stretched.
    #[serde(default)]
    pub shift_terminal: Option<f64>,
    /// Spacing of the noise levels.
    #[serde(default)]
    pub sigma_spacing: SigmaSpacing,
}

impl Default for FlowMatchSpec {
    /// Returns diffusers' default: evenly spaced levels.
    fn default() -> Self {
        Self {
            num_train_timesteps: default_train_timesteps(),
            shift: FlowShift::Fixed(1.0),
            shift_terminal: None,
            sigma_spacing: SigmaSpacing::Timesteps,
        }
    }
}

/// How noise levels are moved towards noise: large pictures need more of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowShift {
    /// By the same factor for all sizes.
    Fixed(f64),
    /// By a shift that is linear in a picture's tokens.
    BySize {
        /// Shift of a picture of `base_tokens`.
        base_shift: f64,
        /// Shift of a picture of `max_tokens`.
        max_shift: f64,
        /// Tokens of a small picture.
        base_tokens: u32,
        /// Tokens of a large picture.
        max_tokens: u32,
        /// What the shift means.
        curve: FlowCurve,
    },
}

/// What a shift by size means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowCurve {
    /// The logarithm of the factor.
    #[default]
    Exponential,
    /// The factor.
    Linear,
}
