//! The only module that uses the `diffusers` crate: its UNet, its autoencoder, its schedulers.
//!
//! Upstream has rested since 2023 and asks for the tch of that time; `compat/` answers with today's.
//! Should the crate have to go, this module is what there is to rewrite. Known limits, which
//! [`Manifest`](crate::Manifest) refuses before they are met: the UNet's group norms have 32 groups, its
//! middle block attends to the prompt, and the cosine noise schedule is wrong.

mod autoencoder;
mod schedulers;
mod unet;

pub(crate) use autoencoder::{Autoencoder, Encoded};
pub(crate) use schedulers::Scheduler;
pub(crate) use unet::UNet;
