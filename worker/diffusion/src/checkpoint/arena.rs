//! Memory for the tensors of a network.

use tch::{Kind, Tensor};

use super::Destination;
use crate::error::Error;

/// Size of one allocation, bytes, unless a tensor is larger. What no tensor uses at its end is
/// never touched, and so occupies no memory.
const SLAB_BYTES: usize = 256 << 20;
/// Alignment of each tensor, bytes: that of torch's own allocations.
const ALIGNMENT: usize = 64;

/// Allocates tensors of one type on one device.
///
/// On the CPU they are parts of few large allocations, which return to the operating system as soon
/// as the network is dropped: the C library keeps freed memory of smaller ones. On a GPU torch's
/// allocator caches either. Huge pages are not asked for: on virtual machines that return free
/// memory to their host, the first touch of 4 GiB then took 7 s instead of 1 s.
pub(super) struct Arena {
    destination: Destination,
    slab: Tensor,
    /// Numbers of the slab that tensors have.
    used: usize,
}

impl Arena {
    pub(super) fn new(destination: Destination) -> Self {
        Self {
            destination,
            slab: Tensor::empty([0], (destination.kind, tch::Device::Cpu)),
            used: 0,
        }
    }

    /// Returns a contiguous tensor of undefined numbers.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn tensor(&mut self, shape: &[i64]) -> Result<Tensor, Error> {
        let Destination { device, kind } = self.destination;
        if device.is_cuda() {
            return Ok(Tensor::f_empty(shape, (kind, device.torch()))?);
        }
        let numbers = shape.iter().product::<i64>().unsigned_abs() as usize;
        if numbers > self.slab.numel() - self.used {
            self.slab = slab(kind, numbers)?;
            self.used = 0;
        }
        let start = self.used;
        let end = (start + numbers).next_multiple_of(ALIGNMENT / kind.elt_size_in_bytes());
        self.used = end.min(self.slab.numel());
        let flat = self.slab.f_narrow(0, start as i64, numbers as i64)?;
        Ok(flat.f_view(shape)?)
    }
}

/// Allocates at least `numbers`.
fn slab(kind: Kind, numbers: usize) -> Result<Tensor, Error> {
    let numbers = numbers.max(SLAB_BYTES / kind.elt_size_in_bytes());
    Ok(Tensor::f_empty([numbers as i64], (kind, tch::Device::Cpu))?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::device::Device;

    #[test]
    fn tensors_of_an_arena_share_no_byte_and_are_aligned() {
        let kind = Kind::Float;
        let device = Device::Cpu;
        let mut arena = Arena::new(Destination { device, kind });
        let large = (SLAB_BYTES / 4) as i64;
        let shapes = [&[0, 4][..], &[3], &[2, 5, 1, 1], &[], &[17], &[large], &[1]];
        let tensors = shapes.map(|shape| (shape, arena.tensor(shape).unwrap()));
        let mut ranges = tensors.map(|(shape, tensor)| {
            assert_eq!(tensor.size(), shape);
            assert!(tensor.is_contiguous());
            let start = tensor.data_ptr() as usize;
            if tensor.numel() > 0 {
                assert_eq!(start % ALIGNMENT, 0);
            }
            (start, start + 4 * tensor.numel())
        });
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "{pair:?}");
        }
    }
}
