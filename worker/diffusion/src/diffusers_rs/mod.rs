//! The only module that uses the `diffusers` crate: its UNet, its autoencoder, its schedulers.
//!
//! Upstream has been inactive since 2023 and requires the tch of that time; `compat/` provides the
//! current one. To replace the crate, rewrite this module. Known limits, which
//! [`Manifest`](crate::Manifest) rejects beforehand: the UNet's group norms have 32 groups, its
//! middle block attends to the prompt, and the cosine noise schedule is wrong.

mod autoencoder;
mod schedulers;
mod unet;

pub(crate) use autoencoder::{Autoencoder, Encoded};
pub(crate) use schedulers::Scheduler;
pub(crate) use unet::UNet;
