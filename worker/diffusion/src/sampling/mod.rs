//! Sampling: from noise to a picture's latents in a number of calls of the UNet.
//!
//! | module | contents |
//! | --- | --- |
//! | `noise_schedule` | how much noise the training added at each timestep |
//! | `spacing` | which timesteps and noise levels a number of steps visits |
//! | `ddim`, `ddpm`, `plms`, `euler`, `heun`, `dpm`, `unipc`, `lcm` | solvers: to the next level |
//! | `flow_match` | the solver of FLUX.1 |
//! | `upstream` | the solvers that diffusers-rs provides |
//!
//! Latents are `signal · picture + deviation · noise`. Some solvers keep the sum of squares at 1,
//! as the training does, others keep the signal at 1, and flows keep the sum at 1; [`Level`] serves
//! all.

mod ddim;
mod ddpm;
mod dpm;
mod euler;
mod flow_match;
mod heun;
mod lcm;
mod noise_schedule;
mod plms;
mod spacing;
mod unipc;
mod upstream;

use tch::Tensor;

use crate::manifest::{PredictionType, SchedulerSpec};
use crate::scheduler::SchedulerKind;
use noise_schedule::NoiseSchedule;

/// The noise of latents.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Level {
    signal: f64,
    deviation: f64,
}

impl Level {
    /// Returns the level of latents whose squares add up to 1. `kept`: the part of the variance
    /// that is the picture's.
    fn of_variance(kept: f64) -> Self {
        Self {
            signal: kept.sqrt(),
            deviation: (1.0 - kept).sqrt(),
        }
    }

    /// Returns the level of latents whose signal is 1.
    fn of_sigma(sigma: f64) -> Self {
        Self {
            signal: 1.0,
            deviation: sigma,
        }
    }

    /// Returns the picture's latents in `latents`, of which a network predicted the target.
    fn picture(self, target: Target, prediction: &Tensor, latents: &Tensor) -> Tensor {
        let predicts = match target {
            Target::Trained(predicts) => predicts,
            Target::Flow => return latents - prediction * self.deviation,
        };
        let length = self.signal.hypot(self.deviation);
        let (signal, deviation) = (self.signal / length, self.deviation / length);
        let latents = latents / length;
        match predicts {
            PredictionType::Epsilon => (latents - prediction * deviation) / signal,
            PredictionType::VPrediction => latents * signal - prediction * deviation,
        }
    }
}

/// Returns a picture's latents within a bound, if there is one.
fn clipped(picture: &Tensor, bound: Option<f64>) -> Tensor {
    match bound {
        Some(bound) => picture.clamp(-bound, bound),
        None => picture.shallow_clone(),
    }
}

/// What a network predicts.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// Noise or velocity of latents whose squares add up to 1.
    Trained(PredictionType),
    /// The noise less the picture.
    Flow,
}

/// A call of the UNet.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Call {
    timestep: f64,
    level: Level,
}

/// What a solver gets from a call of the UNet.
struct Answer<'a> {
    /// The call, counted from 0 over all calls of a whole picture.
    index: usize,
    prediction: &'a Tensor,
    /// The picture's latents according to the prediction.
    picture: Tensor,
    latents: &'a Tensor,
    /// Noise of standard deviation 1, for solvers that add some.
    noise: &'a dyn Fn() -> Tensor,
}

/// A method to get from one noise level to the next; it may keep state between the calls.
trait Solver {
    /// Returns the latents of the next call.
    fn step(&mut self, answer: &Answer<'_>) -> Tensor;

    /// Scales latents for the UNet, which was trained on a sum of squares of 1.
    fn model_input(&self, latents: &Tensor, call: Call) -> Tensor {
        latents / call.level.signal.hypot(call.level.deviation)
    }
}

/// The calls of one picture and their solver.
pub(crate) struct Sampler {
    calls: Vec<Call>,
    /// Calls that a picture to start from replaces.
    skipped: usize,
    calls_per_step: usize,
    initial_sigma: f64,
    target: Target,
    solver: Box<dyn Solver>,
}

/// The parts of a sampler that depend on the kind of scheduler.
struct Plan {
    calls: Vec<Call>,
    initial_sigma: f64,
    solver: Box<dyn Solver>,
}

impl Sampler {
    /// Returns a sampler of a picture of `tokens` (see [`FlowShift`](crate::FlowShift)) in `steps`
    /// steps, within [`SchedulerKind::steps`], without the first
    /// `skipped` ones: the initial latents are as noisy as they would be after those.
    pub(crate) fn new(
        kind: SchedulerKind,
        (steps, skipped): (u32, u32),
        tokens: u32,
        spec: &SchedulerSpec,
    ) -> Self {
        // Two of diffusers' schedulers ignore the setting.
        let schedule = NoiseSchedule::new(&SchedulerSpec {
            rescale_betas_zero_snr: spec.rescale_betas_zero_snr
                && !matches!(kind, SchedulerKind::Heun | SchedulerKind::Pndm),
            ..spec.clone()
        });
        let (steps, skipped) = (steps as usize, skipped as usize);
        let calls_per_step = match kind {
            SchedulerKind::Heun | SchedulerKind::Kdpm2 | SchedulerKind::Kdpm2Ancestral => 2,
            _ => 1,
        };
        let Plan {
            calls,
            initial_sigma,
            solver,
        } = match kind {
            SchedulerKind::Ddpm => ddpm::plan(&schedule, steps, spec),
            SchedulerKind::Ddim => ddim::plan(&schedule, steps, spec),
            SchedulerKind::Pndm => plms::plan(&schedule, steps, skipped, spec),
            SchedulerKind::Euler => euler::plan(&schedule, steps, spec),
            SchedulerKind::EulerAncestral => euler::plan_ancestral(&schedule, steps, spec),
            SchedulerKind::FlowMatchEuler => {
                let flow = spec.flow.clone().unwrap_or_default();
                flow_match::plan(steps, tokens, &flow)
            }
            SchedulerKind::Heun => heun::plan(&schedule, steps, spec),
            SchedulerKind::DpmSolverPlusPlus => dpm::plan(&schedule, steps, spec),
            SchedulerKind::UniPc => unipc::plan(&schedule, steps, spec),
            SchedulerKind::Lcm => lcm::plan(&schedule, steps, spec),
            SchedulerKind::Kdpm2 | SchedulerKind::Kdpm2Ancestral | SchedulerKind::Lms => {
                upstream::plan(kind, steps, spec)
            }
        };
        Self {
            skipped: (skipped * calls_per_step).min(calls.len()),
            calls,
            calls_per_step,
            initial_sigma,
            target: match kind {
                SchedulerKind::FlowMatchEuler => Target::Flow,
                _ => Target::Trained(spec.prediction_type),
            },
            solver,
        }
    }

    /// Returns the calls of the UNet, as indexes for the other methods.
    pub(crate) fn calls(&self) -> std::ops::Range<usize> {
        self.skipped..self.calls.len()
    }

    /// Returns the timestep of a call, in training steps.
    pub(crate) fn timestep(&self, call: usize) -> f64 {
        self.calls[call].timestep
    }

    /// Number of UNet calls per step, except the last one: second-order solvers look ahead.
    pub(crate) fn calls_per_step(&self) -> usize {
        self.calls_per_step
    }

    /// Returns the latents of the first call: of noise with standard deviation 1, and of a
    /// picture's latents if there are any.
    pub(crate) fn initial(&self, picture: Option<&Tensor>, noise: &Tensor) -> Tensor {
        match (picture, self.calls.get(self.skipped)) {
            (Some(picture), Some(first)) => {
                picture * first.level.signal + noise * first.level.deviation
            }
            _ => noise * self.initial_sigma,
        }
    }

    /// Returns a picture's latents as noisy as those of a call, or without noise after the last.
    pub(crate) fn noised(&self, picture: &Tensor, noise: &Tensor, call: usize) -> Tensor {
        match self.calls.get(call) {
            Some(Call { level, .. }) => picture * level.signal + noise * level.deviation,
            None => picture.shallow_clone(),
        }
    }

    /// Scales the latents for the UNet.
    pub(crate) fn model_input(&self, latents: &Tensor, call: usize) -> Tensor {
        self.solver.model_input(latents, self.calls[call])
    }

    /// Returns the picture's latents that a prediction at the first call of a step means.
    pub(crate) fn picture(&self, prediction: &Tensor, call: usize, latents: &Tensor) -> Tensor {
        let level = self.calls[call].level;
        level.picture(self.target, prediction, latents)
    }

    /// Returns the latents of the next call. `noise` draws noise of standard deviation 1.
    pub(crate) fn step(
        &mut self,
        prediction: &Tensor,
        call: usize,
        latents: &Tensor,
        noise: &dyn Fn() -> Tensor,
    ) -> Tensor {
        let picture = self.picture(prediction, call, latents);
        self.solver.step(&Answer {
            index: call,
            prediction,
            picture,
            latents,
            noise,
        })
    }
}

#[cfg(test)]
mod tests;
