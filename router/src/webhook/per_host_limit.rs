//! How many webhooks are told to one receiver (a host's port) at once, and when the others come
//! again. One that is slow has so many of this router's hands and no more, so others do not wait
//! for it. What finds no place books the next moment at which one should be free: the more wait,
//! the later, so those that wait cost little.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The shortest wait of what finds no place.
const MIN_WAIT: Duration = Duration::from_secs(5);

/// The longest one: receivers may get faster.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// How long telling takes, as long as none was measured.
const INITIAL_DURATION: Duration = Duration::from_secs(1);

/// PerHostLimit of which more is known than of so many are forgotten once nothing is told to them.
const MAX_IDLE_HOSTS: usize = 1024;

/// The receivers that are told something now, or have more coming.
#[derive(Debug)]
pub(super) struct PerHostLimit {
    hosts: Mutex<HashMap<String, HostState>>,
    slots: usize,
}

#[derive(Debug)]
struct HostState {
    /// When those that are told something now were begun.
    begun: Vec<Instant>,
    /// How long telling took lately.
    took: Duration,
    /// The moments before this are booked.
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

    /// When a place should be free for one more, after those that booked before.
    fn book(&mut self, now: Instant, slots: usize) -> Duration {
        // Whoever is told something for longer than it took lately says more of the receiver.
        let oldest = self.begun.iter().map(|begun| now - *begun).max();
        let takes = self.took.max(oldest.unwrap_or_default());
        let step = takes / u32::try_from(slots).unwrap_or(u32::MAX);
        self.booked_until = self.booked_until.max(now) + step;
        (self.booked_until - now).clamp(MIN_WAIT, MAX_WAIT)
    }

    /// Takes half of what one more took into the average.
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

/// One webhook that is being told. Dropped, it makes room for another.
#[derive(Debug)]
pub(super) struct HostSlot<'a> {
    limit: &'a PerHostLimit,
    receiver: String,
    begun: Instant,
}

impl PerHostLimit {
    /// `slots`: so many at once for each receiver.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            hosts: Mutex::default(),
            slots,
        }
    }

    /// A place to tell `receiver` something; else after how long to come again.
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
        // Numbers are sound whatever happened to who held them.
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
        // 800 of 14 s each, 8 at a time.
        assert_eq!(waits[799], 1400);
        assert!(waits.is_sorted());
        drop(telling);
        // Of what is booked nothing is forgotten, of what is over all.
        tokio::time::advance(MAX_WAIT).await;
        let now = Instant::now();
        assert!(limit.hosts().values().all(|hosts| hosts.is_quiet(now)));
    }
}
