//! The only module that uses the `diffusers` crate: its schedulers.
//!
//! Upstream has been inactive since 2023 and requires the tch of that time; `compat/` provides the
//! current one. To replace the crate, rewrite this module. A known limit, which
//! [`Manifest`](crate::Manifest) rejects beforehand: the cosine noise schedule is wrong.

mod schedulers;

pub(crate) use schedulers::Scheduler;
