//! The solvers that diffusers-rs provides.

use tch::Tensor;

use super::{Answer, Call, Level, Plan, Solver};
use crate::diffusers_rs::Scheduler;
use crate::manifest::SchedulerSpec;
use crate::scheduler::SchedulerKind;

struct Upstream {
    scheduler: Scheduler,
    timesteps: Vec<f64>,
}

pub(super) fn plan(kind: SchedulerKind, steps: usize, spec: &SchedulerSpec) -> Plan {
    let scheduler = Scheduler::new(kind, steps, spec);
    let timesteps = scheduler.timesteps();
    let level = |timestep| {
        let (one, zero) = (Tensor::from(1.0), Tensor::from(0.0));
        Level {
            signal: scheduler.add_noise(&one, &zero, timestep).double_value(&[]),
            deviation: scheduler.add_noise(&zero, &one, timestep).double_value(&[]),
        }
    };
    let calls = timesteps.iter().map(|&timestep| Call {
        timestep,
        level: level(timestep),
    });
    Plan {
        calls: calls.collect(),
        initial_sigma: scheduler.initial_sigma(),
        solver: Box::new(Upstream {
            scheduler,
            timesteps,
        }),
    }
}

impl Solver for Upstream {
    /// Some of them draw noise from torch's global generator.
    fn step(&mut self, answer: &Answer<'_>) -> Tensor {
        let timestep = self.timesteps[answer.index];
        (self.scheduler).step(answer.prediction, timestep, answer.latents)
    }

    fn model_input(&self, latents: &Tensor, call: Call) -> Tensor {
        self.scheduler.model_input(latents, call.timestep)
    }
}
