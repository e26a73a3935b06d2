//! The name and version that diffusers-rs pins, on today's `torch-sys`.
pub use torch_sys_now::*;
