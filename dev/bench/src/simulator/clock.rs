//! Future events in order of time; of two events at the same time, the one planned first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

#[derive(Debug)]
struct Entry<T> {
    at_s: f64,
    count: u64,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    /// Orders the earliest entry as the greatest, as the heap pops the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_time = other.at_s.total_cmp(&self.at_s);
        by_time.then_with(|| other.count.cmp(&self.count))
    }
}

/// The queue of future events.
#[derive(Debug)]
pub struct Clock<T> {
    entries: BinaryHeap<Entry<T>>,
    count: u64,
}

impl<T> Clock<T> {
    /// Creates an empty clock.
    pub fn new() -> Self {
        Self {
            entries: BinaryHeap::new(),
            count: 0,
        }
    }

    /// Plans an event at `at_s`.
    pub fn plan(&mut self, at_s: f64, what: T) {
        self.count += 1;
        self.entries.push(Entry {
            at_s,
            count: self.count,
            what,
        });
    }

    /// Returns the next event and its time.
    pub fn next(&mut self) -> Option<(f64, T)> {
        self.entries.pop().map(|entry| (entry.at_s, entry.what))
    }
}
