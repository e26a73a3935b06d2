//! Limits concurrent deliveries per host and port, so that a slow receiver does not delay others. A
//! notice without a slot books the time at which one should be free: the longer the backlog, the
//! later, so waiting notices cost little.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Minimum delay without a slot.
const MIN_WAIT: Duration = Duration::from_secs(5);

/// Maximum delay without a slot: receivers may recover.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Assumed duration of a delivery before the first measurement.
const INITIAL_DURATION: Duration = Duration::from_secs(1);

/// Number of idle hosts above which they are forgotten.
const MAX_IDLE_HOSTS: usize = 1024;

/// Hosts with deliveries or bookings.
#[derive(Debug)]
pub(super) struct PerHostLimit {
    hosts: Mutex<HashMap<String, HostState>>,
    slots: usize,
}

#[derive(Debug)]
struct HostState {
    /// Start times of current deliveries.
    begun: Vec<Instant>,
    /// Moving average of the duration.
    took: Duration,
    /// Slots before this time are booked.
    booked_until: Instant,
}

impl HostState {
    fn new(now: Instant) -> Self {
        Self {
            begun: Vec::new(),
            took: INITIAL_DURATION,
            booked_until: now,
        }
    }

    /// Books the next free slot; returns the delay.
    fn book(&mut self, now: Instant, slots: usize) -> Duration {
        // A current delivery that exceeds the average is the better estimate.
        let oldest = self.begun.iter().map(|begun| now - *begun).max();
        let takes = self.took.max(oldest.unwrap_or_default());
        let step = takes / u32::try_from(slots).unwrap_or(u32::MAX);
        self.booked_until = self.booked_until.max(now) + step;
        (self.booked_until - now).clamp(MIN_WAIT, MAX_WAIT)
    }

    /// Updates the average with a completed delivery.
    fn ended(&mut self, begun: Instant, now: Instant) {
        self.took = (self.took + (now - begun)) / 2;
        if let Some(index) = self.begun.iter().position(|other| *other == begun) {
            self.begun.swap_remove(index);
        }
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.begun.is_empty() && self.booked_until <= now
    }
}

/// The slot of a delivery, released on drop.
#[derive(Debug)]
pub(super) struct HostSlot<'a> {
    limit: &'a PerHostLimit,
    receiver: String,
    begun: Instant,
}

impl PerHostLimit {
    /// `slots`: concurrent deliveries per host.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            hosts: Mutex::default(),
            slots,
        }
    }

    /// Takes a slot for a delivery to `receiver`; otherwise returns the delay.
    pub(super) fn enter(&self, receiver: &str) -> Result<HostSlot<'_>, Duration> {
        let now = Instant::now();
        let mut hosts = self.hosts();
        if hosts.len() > MAX_IDLE_HOSTS {
            hosts.retain(|_, receiver| !receiver.is_quiet(now));
        }
        let found = hosts
            .entry(receiver.to_owned())
            .or_insert_with(|| HostState::new(now));
        if found.begun.len() >= self.slots {
            return Err(found.book(now, self.slots));
        }
        found.begun.push(now);
        Ok(HostSlot {
            limit: self,
            receiver: receiver.to_owned(),
            begun: now,
        })
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, HostState>> {
        // The data is valid even after a panic of its holder.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HostSlot<'_> {
    fn drop(&mut self) {
        if let Some(receiver) = self.limit.hosts().get_mut(&self.receiver) {
            receiver.ended(self.begun, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_receiver_has_its_places_and_leaves_others_theirs() {
        let limit = PerHostLimit::new(2);
        let slow = [limit.enter("slow"), limit.enter("slow")];
        assert!(slow.iter().all(Result::is_ok));
        assert!(limit.enter("slow").is_err());
        assert!(limit.enter("quick").is_ok());
        drop(slow);
        assert!(limit.enter("slow").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_more_wait_for_a_receiver_the_later_the_next_one_comes_again() {
        let limit = PerHostLimit::new(8);
        let telling: Vec<_> = (0..8).map(|_| limit.enter("slow")).collect();
        tokio::time::advance(Duration::from_secs(14)).await;
        let waits: Vec<u64> = (0..800)
            .filter_map(|_| Some(limit.enter("slow").err()?.as_secs()))
            .collect();
        assert_eq!(waits[0], MIN_WAIT.as_secs());
        // 800 deliveries of 14 s, 8 at a time.
        assert_eq!(waits[799], 1400);
        assert!(waits.is_sorted());
        drop(telling);
        // Hosts with bookings are kept, idle ones are forgotten.
        tokio::time::advance(MAX_WAIT).await;
        let now = Instant::now();
        assert!(limit.hosts().values().all(|hosts| hosts.is_quiet(now)));
    }
}
