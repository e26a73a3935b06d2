//! Calls an observer, with steps counted over all pictures of a request.

use std::ops::ControlFlow;

use super::Observer;
use crate::latents::Latents;
use crate::picture::Picture;

pub(super) struct StepCounter<'a> {
    observer: &'a mut dyn Observer,
    step: u32,
    steps: u32,
}

impl<'a> StepCounter<'a> {
    /// Creates a counter; `steps` is the total number of UNet calls.
    pub(super) fn new(observer: &'a mut dyn Observer, steps: u32) -> StepCounter<'a> {
        let step = 0;
        StepCounter {
            observer,
            step,
            steps,
        }
    }

    /// Counts a call of the UNet; called before it.
    pub(super) fn step(&mut self) -> ControlFlow<()> {
        self.step += 1;
        self.observer.step(self.step, self.steps)
    }

    pub(super) fn preview(&mut self, preview: Picture) {
        self.observer.preview(preview);
    }

    pub(super) fn latents(&mut self, latents: Latents) {
        self.observer.latents(latents);
    }
}
