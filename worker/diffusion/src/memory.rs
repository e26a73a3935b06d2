//! How much memory tensors hold.
//!
//! tch has no memory statistics. On a GPU they come from torch's own allocator through a small C++
//! shim (`cuda/memory.cpp`), compiled only against a libtorch with CUDA; on the CPU from the kernel.

use crate::device::Device;

/// Bytes in use on a device by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Now: on a GPU what tensors hold, on the CPU the whole process's resident memory.
    pub current_bytes: u64,
    /// The most since the start, or since [`Device::reset_peak_memory`].
    pub peak_bytes: u64,
}

impl Device {
    /// What is in use, or `None` where the system does not say.
    pub fn memory(&self) -> Option<Memory> {
        match *self {
            Device::Cpu => process::memory(),
            Device::Cuda(index) => cuda::memory(index),
        }
    }

    /// Starts a new measurement of the peak.
    pub fn reset_peak_memory(&self) {
        match *self {
            Device::Cpu => process::reset_peak(),
            Device::Cuda(index) => cuda::reset_peak(index),
        }
    }

    /// Gives memory that no tensor uses back to the GPU's driver, for other processes to use. Torch
    /// otherwise keeps what a dropped model held for the next one; within one process that is faster.
    pub fn release_unused_memory(&self) {
        if self.is_cuda() {
            cuda::empty_cache();
        }
    }
}

mod process {
    use super::Memory;

    /// Linux only: `VmRSS` and `VmHWM` of proc(5).
    pub(super) fn memory() -> Option<Memory> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
                .map(|kib| kib * 1024)
        };
        Some(Memory {
            current_bytes: bytes("VmRSS:")?,
            peak_bytes: bytes("VmHWM:")?,
        })
    }

    pub(super) fn reset_peak() {
        // proc(5): 5 resets the peak resident set size. Where that is not allowed the peak stays.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
    }
}

#[cfg(libtorch_cuda)]
#[allow(
    unsafe_code,
    reason = "three C functions; the contract of each is one line in cuda/memory.cpp"
)]
mod cuda {
    use super::Memory;

    unsafe extern "C" {
        fn warmq_cuda_memory(device: i8, current: *mut i64, peak: *mut i64) -> bool;
        fn warmq_cuda_reset_peak(device: i8) -> bool;
        fn warmq_cuda_empty_cache() -> bool;
    }

    pub(super) fn memory(device: usize) -> Option<Memory> {
        let (mut current, mut peak) = (0, 0);
        // SAFETY: both pointers are to live integers, which the function writes at most once.
        let known =
            unsafe { warmq_cuda_memory(i8::try_from(device).ok()?, &mut current, &mut peak) };
        let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
        known.then(|| Memory {
            current_bytes: bytes(current),
            peak_bytes: bytes(peak),
        })
    }

    pub(super) fn reset_peak(device: usize) {
        // SAFETY: takes a number, returns whether torch knew that device; no exception leaves it.
        unsafe { warmq_cuda_reset_peak(i8::try_from(device).unwrap_or(-1)) };
    }

    pub(super) fn empty_cache() {
        // SAFETY: takes nothing, and no exception leaves it.
        unsafe { warmq_cuda_empty_cache() };
    }
}

#[cfg(not(libtorch_cuda))]
mod cuda {
    use super::Memory;

    pub(super) fn memory(_device: usize) -> Option<Memory> {
        None
    }

    pub(super) fn reset_peak(_device: usize) {}

    pub(super) fn empty_cache() {}
}
