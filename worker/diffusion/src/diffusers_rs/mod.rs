//! The only module that uses the `diffusers` crate: three of its schedulers.
//!
//! Upstream has been inactive since 2023 and requires the tch of that time; `compat/` provides the
//! current one. To replace the crate, rewrite this module. Its schedulers compute Hugging Face's
//! default settings only; [`Manifest`](crate::Manifest) allows them for no others.

mod schedulers;

pub(crate) use schedulers::Scheduler;
