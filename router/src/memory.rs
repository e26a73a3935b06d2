//! Accounting of the memory that request bodies occupy, over all connections.
//!
//! A body occupies memory from its arrival until the last [`HeldBytes`] of its request is dropped:
//! the owner of the body keeps a handle beside it. A body that is passed on in parts
//! occupies no more than the buffers it passes through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of request bodies in memory. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct BodyMemory(Arc<AtomicU64>);

impl BodyMemory {
    /// Bytes that are occupied now.
    #[cfg(test)]
    pub fn occupied(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bytes of one request's body that are in memory. Released when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct HeldBytes(Arc<Held>);

#[derive(Debug)]
struct Held {
    memory: BodyMemory,
    bytes: AtomicU64,
    /// Most bytes that the body occupies, however long it is.
    at_most: AtomicU64,
}

impl HeldBytes {
    /// Nothing yet, of `memory`.
    pub fn new(memory: BodyMemory) -> Self {
        Self(Arc::new(Held {
            memory,
            bytes: AtomicU64::new(0),
            at_most: AtomicU64::new(u64::MAX),
        }))
    }

    /// Declares that the body is passed on piece by piece through buffers of `bytes`, and kept
    /// nowhere.
    pub fn pass_through(&self, bytes: u64) {
        self.0.at_most.store(bytes, Ordering::Relaxed);
    }

    /// Adds bytes that arrived. Returns how many bytes all bodies occupy then.
    pub fn add(&self, bytes: u64) -> u64 {
        let Held {
            memory: BodyMemory(total),
            bytes: held,
            at_most,
        } = &*self.0;
        // One reader adds to a body; nothing else does.
        let before = held.load(Ordering::Relaxed);
        let after = before.saturating_add(bytes);
        let after = after.min(at_most.load(Ordering::Relaxed)).max(before);
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
    fn a_body_occupies_memory_until_its_last_holder_lets_go() {
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
    fn a_body_that_is_passed_on_occupies_its_buffers_only() {
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
