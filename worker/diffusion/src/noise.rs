//! Noise that the same seed draws again.

use std::sync::{Mutex, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use tch::Tensor;

/// Normal noise on the CPU, from a generator of our own: torch's is global to the process, and another
/// on each kind of device.
pub(crate) fn initial(seed: u64, shape: [u32; 4]) -> Tensor {
    let count = shape.iter().map(|&n| n as usize).product();
    let generator = ChaCha8Rng::seed_from_u64(seed);
    let noise: Vec<f32> = StandardNormal.sample_iter(generator).take(count).collect();
    Tensor::from_slice(&noise).view(shape.map(i64::from))
}

/// Takes a step's place in [`reproducibly`] where a picture is encoded.
pub(crate) const ENCODING: u32 = u32::MAX;

/// Runs a scheduler's step, which may draw from torch's generator, so that the same seed draws the same
/// noise. The generator is the process's: other engines' steps wait meanwhile, for microseconds.
pub(crate) fn reproducibly<T>(seed: u64, step: u32, draw: impl FnOnce() -> T) -> T {
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _turn = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    // Multiplied by 2^64 over the golden ratio, no seed's later steps are a neighbour's earlier ones.
    let spread = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    tch::manual_seed(spread.wrapping_add(u64::from(step)).cast_signed());
    draw()
}
