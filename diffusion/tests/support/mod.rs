//! What the tests share: where the models are, and how to make a small one.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::path::PathBuf;

use warmq_diffusion::{Catalog, Device, Pipeline};

/// The repository's models, or another folder of the same shape.
pub fn models() -> PathBuf {
    let shipped = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../models"));
    std::env::var_os("WARMQ_MODELS").map_or_else(shipped, PathBuf::from)
}

/// A shipped model on the CPU, on one thread as the worker runs it.
pub fn load(name: &str) -> Pipeline {
    warmq_diffusion::set_threads(1);
    let manifest = Catalog::open(&models()).unwrap().manifest(name).unwrap();
    Pipeline::load(&manifest, &Device::Cpu, &mut |_| {}).unwrap()
}
