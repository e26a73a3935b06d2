//! How many webhooks are told to one receiver (a host's port) at once. One that is slow has so many of this router's hands and no more, so the
//! others do not wait for it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The receivers that are told something now.
#[derive(Debug)]
pub(super) struct Receivers {
    told: Mutex<HashMap<String, usize>>,
    most: usize,
}

/// One webhook that is being told. Dropped, it makes room for another.
#[derive(Debug)]
pub(super) struct Place<'a> {
    receivers: &'a Receivers,
    receiver: String,
}

impl Receivers {
    /// `most`: so many at once for each receiver.
    pub(super) fn new(most: usize) -> Self {
        Self {
            told: Mutex::default(),
            most,
        }
    }

    /// A place to tell `receiver` something; `None` if all are taken.
    pub(super) fn enter(&self, receiver: &str) -> Option<Place<'_>> {
        let mut told = self.told();
        let count = told.entry(receiver.to_owned()).or_default();
        if *count == self.most {
            return None;
        }
        *count += 1;
        Some(Place {
            receivers: self,
            receiver: receiver.to_owned(),
        })
    }

    fn told(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // Numbers are sound whatever happened to who held them.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut told = self.receivers.told();
        if let Some(count) = told.get_mut(&self.receiver) {
            *count -= 1;
            if *count == 0 {
                told.remove(&self.receiver);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_has_its_places_and_leaves_others_theirs() {
        let receivers = Receivers::new(2);
        let slow = [receivers.enter("slow"), receivers.enter("slow")];
        assert!(slow.iter().all(Option::is_some));
        assert!(receivers.enter("slow").is_none());
        assert!(receivers.enter("quick").is_some());
        drop(slow);
        assert!(receivers.enter("slow").is_some());
        assert!(receivers.told().is_empty(), "receivers are forgotten");
    }
}
