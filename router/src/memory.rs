//! Accounting of the memory of request bodies, over all connections.
//!
//! A body occupies memory from its arrival until the last [`HeldBytes`] of its request is dropped;
//! a streamed body occupies at most the buffers it passes through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of request bodies in memory. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct BodyMemory(Arc<AtomicU64>);

impl BodyMemory {
    /// Returns the occupied bytes.
    #[cfg(test)]
    pub fn occupied(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes of one request's body in memory. Released when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct HeldBytes(Arc<Held>);

#[derive(Debug)]
struct Held {
    memory: BodyMemory,
    bytes: AtomicU64,
    /// Maximum that the body occupies, whatever its length.
    max_bytes: AtomicU64,
}

impl HeldBytes {
    /// Returns a handle on a new body of 0 bytes.
    pub fn new(memory: BodyMemory) -> Self {
        Self(Arc::new(Held {
            memory,
            bytes: AtomicU64::new(0),
            max_bytes: AtomicU64::new(u64::MAX),
        }))
    }

    /// Declares that the body is streamed through buffers of `bytes`.
    pub fn pass_through(&self, bytes: u64) {
        self.0.max_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Adds received bytes. Returns the bytes of all bodies.
    pub fn add(&self, bytes: u64) -> u64 {
        let Held {
            memory: BodyMemory(total),
            bytes: held,
            max_bytes,
        } = &*self.0;
        // A body has a single reader.
        let before = held.load(Ordering::Relaxed);
        let after = before.saturating_add(bytes);
        let after = after.min(max_bytes.load(Ordering::Relaxed)).max(before);
        held.store(after, Ordering::Relaxed);
        total.fetch_add(after - before, Ordering::Relaxed) + (after - before)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.memory.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_occupies_memory_until_its_last_handle_is_dropped() {
        let memory = BodyMemory::default();
        let held = HeldBytes::new(memory.clone());
        assert_eq!(held.add(10), 10);
        let kept = held.clone();
        drop(held);
        assert_eq!(memory.occupied(), 10);
        drop(kept);
        assert_eq!(memory.occupied(), 0);
    }

    #[test]
    fn a_streamed_body_occupies_its_buffers_only() {
        let memory = BodyMemory::default();
        let passed = HeldBytes::new(memory.clone());
        passed.pass_through(15);
        for _ in 0..100 {
            passed.add(10);
        }
        let kept = HeldBytes::new(memory.clone());
        assert_eq!(kept.add(10), 25);
        drop((passed, kept));
        assert_eq!(memory.occupied(), 0);
    }
}
