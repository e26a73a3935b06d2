//! The name and version that diffusers-rs pins, on today's `tch`.
pub use tch_now::*;
