//! Which deliveries of a lane stay in the dispatcher's window, and which move to an overflow queue.
//! Pure.
//!
//! An owner may hold at most as many deliveries of a lane as the window has room for further ones:
//! one that floods an idle lane gets half of the window, `k` of them 1/(k + 1) each, and the rest
//! is there for the others (A. K. Choudhury and E. L. Hahne, "Dynamic queue length thresholds for
//! shared-memory packet switches", IEEE/ACM Transactions on Networking 6(2), 1998, with alpha = 1).
//! They allow each queue one packet in any case. Here, an owner that finds the window full has its
//! first job moved as well: from an overflow queue of its own it is delivered at once.

use std::collections::HashMap;

use warmq_types::job::Priority;
use warmq_types::owner_lane::OwnerLane;

/// Deliveries of a lane that are never held, so that moves proceed although the window is full: the
/// number of moves whose confirms may be awaited at the same time then.
const ROOM_FOR_MOVES: usize = 64;

/// Overflow queues of an app. Each takes a channel, and up to 16 MiB for its deliveries. Further
/// owners that fill a lane are held there, as without overflow queues.
const MAX_QUEUES: usize = 256;

/// Ticks without any message after which an overflow queue has ended: a message that was returned
/// to it comes again within milliseconds.
const QUIET_TICKS: u32 = 5;

/// The counts of one session.
#[derive(Debug)]
pub(super) struct Admission {
    /// Deliveries of each lane that may be held.
    window: usize,
    /// Deliveries of the lanes that are not acknowledged, without those that move.
    held: HashMap<OwnerLane, usize>,
    held_normal: usize,
    held_low: usize,
    queues: HashMap<OwnerLane, Activity>,
}

/// What happens in an overflow queue.
#[derive(Debug, Default)]
struct Activity {
    /// Its deliveries that are not acknowledged, and the moves to it that are not confirmed.
    messages: usize,
    /// Ticks since the last of these.
    quiet_ticks: u32,
}

impl Admission {
    /// Returns the counts of a session that has received nothing. `prefetch`: of each lane.
    pub(super) fn new(prefetch: usize) -> Self {
        Self {
            window: prefetch.saturating_sub(ROOM_FOR_MOVES),
            held: HashMap::new(),
            held_normal: 0,
            held_low: 0,
            queues: HashMap::new(),
        }
    }

    /// Returns whether a delivery of a lane moves to its owner's overflow queue. `is_new`: it is
    /// delivered for the first time, and no runner returned it; otherwise it is older than what the
    /// overflow queue contains, so it stays before that if there is room.
    pub(super) fn must_move(&self, jobs: &OwnerLane, is_new: bool) -> bool {
        let overflows = self.queues.contains_key(jobs);
        let limit = self.window.saturating_sub(self.held_of(jobs.lane));
        let held = self.held.get(jobs).copied().unwrap_or_default();
        (overflows && is_new) || (held >= limit && (overflows || self.queues.len() < MAX_QUEUES))
    }

    /// Counts a delivery of a lane that stays.
    pub(super) fn hold(&mut self, jobs: &OwnerLane) {
        *self.held.entry(jobs.clone()).or_default() += 1;
        *self.held_of_mut(jobs.lane) += 1;
    }

    /// Counts such a delivery no longer.
    pub(super) fn release(&mut self, jobs: &OwnerLane) {
        if let Some(held) = self.held.get_mut(jobs) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(jobs);
            }
            *self.held_of_mut(jobs.lane) -= 1;
        }
    }

    /// Adds an overflow queue.
    pub(super) fn add_queue(&mut self, jobs: &OwnerLane) {
        self.queues.entry(jobs.clone()).or_default();
    }

    /// Removes an overflow queue that was deleted.
    pub(super) fn remove_queue(&mut self, jobs: &OwnerLane) {
        self.queues.remove(jobs);
    }

    /// Counts a message that moves to an overflow queue, or that it delivered.
    pub(super) fn enter(&mut self, jobs: &OwnerLane) {
        if let Some(queue) = self.queues.get_mut(jobs) {
            queue.messages += 1;
            queue.quiet_ticks = 0;
        }
    }

    /// Counts such a message no longer: it is in the queue, or was acknowledged or returned.
    pub(super) fn leave(&mut self, jobs: &OwnerLane) {
        if let Some(queue) = self.queues.get_mut(jobs) {
            queue.messages = queue.messages.saturating_sub(1);
            queue.quiet_ticks = 0;
        }
    }

    /// Advances by a tick. Returns the overflow queues that have ended, unless they contain
    /// messages that have yet to be delivered.
    pub(super) fn tick(&mut self) -> Vec<OwnerLane> {
        let mut ended = Vec::new();
        for (jobs, queue) in &mut self.queues {
            if queue.messages == 0 {
                queue.quiet_ticks += 1;
            }
            if queue.quiet_ticks > QUIET_TICKS {
                ended.push(jobs.clone());
            }
        }
        ended
    }

    fn held_of(&self, lane: Priority) -> usize {
        match lane {
            Priority::Normal => self.held_normal,
            Priority::Low => self.held_low,
        }
    }

    fn held_of_mut(&mut self, lane: Priority) -> &mut usize {
        match lane {
            Priority::Normal => &mut self.held_normal,
            Priority::Low => &mut self.held_low,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(owner: &str) -> OwnerLane {
        OwnerLane::parse(&format!("normal.{owner}")).unwrap()
    }

    /// Delivers a job. Returns whether it stays.
    fn deliver(admission: &mut Admission, jobs: &OwnerLane, is_new: bool) -> bool {
        let moves = admission.must_move(jobs, is_new);
        match moves {
            true => admission.add_queue(jobs),
            false => admission.hold(jobs),
        }
        !moves
    }

    /// Returns how many of so many jobs stay.
    fn flood(admission: &mut Admission, owner: &str, jobs: usize) -> usize {
        let stay = (0..jobs).filter(|_| deliver(admission, &of(owner), true));
        stay.count()
    }

    #[test]
    fn one_owner_gets_half_of_the_window_and_two_that_alternate_a_third_each() {
        let mut admission = Admission::new(1000);
        assert_eq!(flood(&mut admission, "a", 10_000), 468);
        assert_eq!(flood(&mut admission, "b", 1), 1, "b is not behind them");

        let mut admission = Admission::new(1000);
        let mut stay = [0, 0];
        for _ in 0..10_000 {
            stay[0] += flood(&mut admission, "a", 1);
            stay[1] += flood(&mut admission, "b", 1);
        }
        assert_eq!(stay, [312, 312]);
    }

    #[test]
    fn lanes_have_windows_of_their_own_and_jobs_without_an_owner_are_those_of_one() {
        let mut admission = Admission::new(1000);
        flood(&mut admission, "a", 10_000);
        for text in ["low.a", "low", "normal"] {
            let jobs = OwnerLane::parse(text).unwrap();
            assert!(deliver(&mut admission, &jobs, true), "{text}");
        }
        let none = OwnerLane::parse("normal").unwrap();
        let stay = (0..10_000).filter(|_| deliver(&mut admission, &none, true));
        assert_eq!(stay.count(), 233);
    }

    #[test]
    fn what_follows_moves_until_the_overflow_queue_has_ended() {
        let (mut admission, a) = (Admission::new(1000), of("a"));
        flood(&mut admission, "a", 469);
        admission.enter(&a);
        for _ in 0..468 {
            admission.release(&a);
        }
        assert!(admission.must_move(&a, true), "others are before it");
        assert!(!admission.must_move(&a, false), "it is before the others");
        for _ in 0..=QUIET_TICKS {
            assert!(admission.tick().is_empty(), "a message is on its way");
        }
        admission.leave(&a);
        for _ in 0..QUIET_TICKS {
            assert!(admission.tick().is_empty());
        }
        assert_eq!(admission.tick(), std::slice::from_ref(&a));
        admission.remove_queue(&a);
        assert!(!admission.must_move(&a, true));
    }

    #[test]
    fn the_number_of_queues_is_bounded() {
        let mut admission = Admission::new(1000);
        for number in 0..=MAX_QUEUES {
            admission.add_queue(&of(&format!("other-{number}")));
        }
        assert_eq!(flood(&mut admission, "a", 10_000), 10_000);
        assert_eq!(flood(&mut admission, "other-1", 10_000), 0);
    }

    /// An event of a lane: an owner's job arrives, or one of the held ones is sent.
    #[derive(Debug, Clone)]
    enum Event {
        Arrives { owner: u8, is_new: bool },
        Leaves { index: prop::sample::Index },
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let arrives = (0..24u8, prop::bool::weighted(0.8))
            .prop_map(|(owner, is_new)| Event::Arrives { owner, is_new });
        let leaves = any::<prop::sample::Index>().prop_map(|index| Event::Leaves { index });
        prop::collection::vec(prop_oneof![4 => arrives, 1 => leaves], 0..400)
    }

    /// Applies events. Returns the held jobs, in the order of their arrival.
    fn apply(
        admission: &mut Admission,
        events: Vec<Event>,
        mut check: impl FnMut(&Admission),
    ) -> Vec<OwnerLane> {
        let mut held = Vec::new();
        for event in events {
            match event {
                Event::Arrives { owner, is_new } => {
                    let jobs = of(&owner.to_string());
                    if deliver(admission, &jobs, is_new) {
                        held.push(jobs);
                    }
                }
                Event::Leaves { .. } if held.is_empty() => {}
                Event::Leaves { index } => admission.release(&held.remove(index.index(held.len()))),
            }
            check(admission);
        }
        held
    }

    proptest! {
        #[test]
        fn a_lane_always_keeps_room(window in 1..64usize, events in events()) {
            let mut admission = Admission::new(ROOM_FOR_MOVES + window);
            let held = apply(&mut admission, events, |admission| {
                assert!(admission.held_normal <= window);
                let newcomer = admission.must_move(&of("newcomer"), true);
                assert_eq!(newcomer, admission.held_normal == window);
            });
            prop_assert_eq!(admission.held.values().sum::<usize>(), held.len());
            prop_assert_eq!(admission.held_normal, held.len());
        }

        #[test]
        fn the_next_leader_holds_what_a_dead_one_held(window in 1..64usize, events in events()) {
            let mut admission = Admission::new(ROOM_FOR_MOVES + window);
            let held = apply(&mut admission, events, |_| ());
            let mut next = Admission::new(ROOM_FOR_MOVES + window);
            for jobs in admission.queues.keys() {
                next.add_queue(jobs);
            }
            for jobs in held {
                prop_assert!(deliver(&mut next, &jobs, false));
            }
        }
    }
}
