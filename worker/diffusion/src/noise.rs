//! Reproducible noise.

use std::sync::{Mutex, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use tch::Tensor;

/// Returns normal noise on the CPU, from a local generator: torch's is global to the process, and
/// differs between kinds of devices.
pub(crate) fn initial(seed: u64, shape: [u32; 4]) -> Tensor {
    let count = shape.iter().map(|&n| n as usize).product();
    let generator = ChaCha8Rng::seed_from_u64(seed);
    let noise: Vec<f32> = StandardNormal.sample_iter(generator).take(count).collect();
    Tensor::from_slice(&noise).view(shape.map(i64::from))
}

/// The step number of encoding in [`reproducibly`].
pub(crate) const ENCODING: u32 = u32::MAX;

/// Runs a scheduler's step, which may draw from torch's generator, reproducibly. The generator is
/// global to the process: steps of other engines wait meanwhile, for microseconds. Nothing else in
/// the process may draw from it.
pub(crate) fn reproducibly<T>(seed: u64, step: u32, draw: impl FnOnce() -> T) -> T {
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _turn = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    // Multiplied by 2^64 over the golden ratio, so that a seed's later steps do not coincide with a
    // neighbouring seed's earlier ones.
    let spread = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    tch::manual_seed(spread.wrapping_add(u64::from(step)).cast_signed());
    draw()
}
