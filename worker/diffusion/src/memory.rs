//! Memory of tensors.
//!
//! tch has no memory statistics. On a GPU torch's allocator provides them through a small C++ shim
//! (`cuda/memory.cpp`), compiled only with a CUDA libtorch; on the CPU the kernel does.
//!
//! On a GPU torch keeps freed memory for the next tensors. On the CPU the C library returns that of
//! large tensors at once, and each step then spends 10 to 15 % of its time in page faults, so
//! [`process`] makes it keep that, too: see docs/benchmarks/engine.md.

/// Memory of this process on a device, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Current: on a GPU that of tensors, on the CPU the process's resident memory.
    pub current_bytes: u64,
    /// Peak since the start, or since [`reset_peak_memory`](crate::Device::reset_peak_memory).
    pub peak_bytes: u64,
}

pub(crate) mod process {
    use super::Memory;

    /// Returns, on Linux only, `VmRSS` and `VmHWM` of proc(5).
    pub(crate) fn memory() -> Option<Memory> {
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

    /// Makes the C library keep freed memory of tensors for the next ones, up to 1 GiB at the end
    /// of its heap. Tensors of 100 MiB or more, and so the weights, still return theirs at once.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code, reason = "a function of the C library, of two numbers")]
    pub(crate) fn keep_freed_memory() {
        static ONCE: std::sync::Once = std::sync::Once::new();
        // SAFETY: mallopt may be called at any time; it sets two numbers of the allocator.
        ONCE.call_once(|| unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 100 << 20);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
        });
    }

    /// Makes the kernel provide the pages of new memory at once, in half of the time of a fault for
    /// each. Without effect before Linux 5.14, which does not know this advice.
    #[cfg(target_os = "linux")]
    #[allow(
        unsafe_code,
        reason = "rustix's function is one of a pointer and a length"
    )]
    pub(crate) fn provide_pages<T>(memory: &mut [T]) {
        use rustix::mm::{Advice, madvise};

        let start = memory.as_mut_ptr().cast::<u8>();
        // The advice is for whole pages, and changes none of their contents.
        let before = start.addr() % rustix::param::page_size();
        let bytes = size_of_val(memory) + before;
        // SAFETY: from the start of the page of the first byte to the last byte all is mapped.
        let _ = unsafe { madvise(start.sub(before).cast(), bytes, Advice::LinuxPopulateWrite) };
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn provide_pages<T>(_memory: &mut [T]) {}

    /// Returns the kept memory to the operating system.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code, reason = "a function of the C library, of one number")]
    pub(crate) fn release_freed_memory() {
        // SAFETY: malloc_trim may be called at any time; it frees nothing that is allocated.
        unsafe { libc::malloc_trim(0) };
    }

    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    pub(crate) fn keep_freed_memory() {}

    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    pub(crate) fn release_freed_memory() {}

    pub(crate) fn reset_peak() {
        // proc(5): 5 resets the peak resident set size. If that is not permitted the peak stays.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
    }
}

#[cfg(libtorch_cuda)]
#[allow(
    unsafe_code,
    reason = "three C functions; the contract of each is one line in cuda/memory.cpp"
)]
pub(crate) mod cuda {
    use super::Memory;

    unsafe extern "C" {
        fn warmq_cuda_memory(device: i8, current: *mut i64, peak: *mut i64) -> bool;
        fn warmq_cuda_reset_peak(device: i8) -> bool;
        fn warmq_cuda_empty_cache() -> bool;
    }

    pub(crate) fn memory(device: usize) -> Option<Memory> {
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

    pub(crate) fn reset_peak(device: usize) {
        // SAFETY: takes a number, returns whether torch has initialised that device; no exception
        // escapes.
        unsafe { warmq_cuda_reset_peak(i8::try_from(device).unwrap_or(-1)) };
    }

    pub(crate) fn empty_cache() {
        // SAFETY: takes nothing, and no exception escapes.
        unsafe { warmq_cuda_empty_cache() };
    }
}

#[cfg(not(libtorch_cuda))]
pub(crate) mod cuda {
    use super::Memory;

    pub(crate) fn memory(_device: usize) -> Option<Memory> {
        None
    }

    pub(crate) fn reset_peak(_device: usize) {}

    pub(crate) fn empty_cache() {}
}
