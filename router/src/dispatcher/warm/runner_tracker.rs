//! Tracks runners by name, incarnation and number, and turns their events in Redis into the
//! policy's events. Pure.
//!
//! The same change may arrive twice and in any order: as an event, which may be missed, and by the
//! periodic comparison of all runners. Each incarnation counts how often it came free, which
//! identifies old events.

use std::collections::{HashMap, HashSet, VecDeque};

use warmq_policy::warm::{Event, Found, Freed, Memory, RunObservation, Runner};
use warmq_store::{FreeRunner, RunnerAvailability, RunnerEvent};
use warmq_types::hint::Hint;
use warmq_types::ids::{Epoch, RunnerId};
use warmq_types::tier::Tier;

use super::hints::Hints;

#[derive(Debug, Clone, Copy)]
struct TrackedRunner {
    number: Runner,
    epoch: Epoch,
    frees: u64,
}

#[derive(Debug, Default)]
pub(super) struct RunnerTracker {
    runners: HashMap<RunnerId, TrackedRunner>,
    names: Vec<Option<RunnerId>>,
    /// Numbers by name, including absent runners: a held job may avoid one that returns.
    numbers: HashMap<RunnerId, Runner>,
    /// Absent runners with a number, the longest absent first.
    absent: VecDeque<RunnerId>,
}

/// Absent runners that keep their numbers.
const MAX_ABSENT: usize = 1000;

impl RunnerTracker {
    /// Returns the name of a runner.
    pub(super) fn name(&self, number: Runner) -> Option<&RunnerId> {
        self.names.get(number.0 as usize)?.as_ref()
    }

    /// Returns the policy's events for an event in Redis.
    pub(super) fn event(&mut self, event: RunnerEvent, hints: &mut Hints) -> Vec<Event> {
        match event {
            RunnerEvent::Freed(free) => {
                let known = self.runners.get(&free.runner);
                // The catalog came with the first event; the next comparison of all runners reads
                // it.
                let is_new = known.is_none_or(|known| known.epoch != free.epoch);
                if is_new && free.models.is_none() {
                    return Vec::new();
                }
                let is_news =
                    known.is_none_or(|known| (known.epoch, known.frees) < (free.epoch, free.frees));
                match is_news {
                    true => self.freed(free, hints),
                    false => Vec::new(),
                }
            }
            RunnerEvent::Taken {
                runner,
                epoch,
                frees,
            } => match self.runners.get(&runner) {
                Some(known) if (known.epoch, known.frees) == (epoch, frees) => {
                    vec![Event::Taken {
                        runner: known.number,
                    }]
                }
                _ => Vec::new(),
            },
            RunnerEvent::Gone { runner, epoch } => match self.runners.get(&runner) {
                Some(known) if known.epoch == epoch => self.lost(&runner).into_iter().collect(),
                _ => Vec::new(),
            },
            // Only for metrics: a runner that takes no more jobs disconnects.
            RunnerEvent::Faulted { .. } => Vec::new(),
        }
    }

    /// Returns the policy's events for a runner's current state in Redis. `policy_idle`: the
    /// policy's view.
    pub(super) fn state(
        &mut self,
        now: FreeRunner,
        is_idle: bool,
        policy_idle: bool,
        hints: &mut Hints,
    ) -> Vec<Event> {
        match self.runners.get_mut(&now.runner) {
            Some(known) if known.epoch == now.epoch => {
                let number = known.number;
                match (is_idle, policy_idle) {
                    (true, false) => self.freed(now, hints),
                    (false, true) => {
                        known.frees = now.frees;
                        vec![Event::Taken { runner: number }]
                    }
                    _ => Vec::new(),
                }
            }
            _ if is_idle => self.freed(now, hints),
            _ => {
                let (runner, mut events) = self.register(&now, hints);
                events.push(Event::Found(Found {
                    runner,
                    memory: memory(&now, hints),
                    owner: None,
                }));
                events
            }
        }
    }

    /// Returns the runners to be read, and the losses. `policy_idle`: the policy's view.
    pub(super) fn compare(
        &mut self,
        availabilities: &[RunnerAvailability],
        policy_idle: impl Fn(Runner) -> bool,
    ) -> (Vec<RunnerId>, Vec<Event>) {
        let alive: HashSet<&RunnerId> = availabilities
            .iter()
            .map(|availability| &availability.runner)
            .collect();
        let gone: Vec<RunnerId> = self
            .runners
            .keys()
            .filter(|runner| !alive.contains(runner))
            .cloned()
            .collect();
        let lost = gone.iter().filter_map(|runner| self.lost(runner)).collect();
        let unclear = availabilities.iter().filter(|availability| {
            self.runners.get(&availability.runner).is_none_or(|known| {
                known.epoch != availability.epoch || policy_idle(known.number) != availability.idle
            })
        });
        (
            unclear
                .map(|availability| availability.runner.clone())
                .collect(),
            lost,
        )
    }

    /// Returns the number of a live runner.
    pub(super) fn number(&self, runner: &RunnerId) -> Option<Runner> {
        self.runners.get(runner).map(|known| known.number)
    }

    fn freed(&mut self, free: FreeRunner, hints: &mut Hints) -> Vec<Event> {
        let (runner, mut events) = self.register(&free, hints);
        events.push(Event::Freed(Freed {
            runner,
            memory: memory(&free, hints),
            ran: free.ran.map(|ran| RunObservation {
                model: hints.number(&ran.hint),
                run_s: ran.timings.run_ms as f64 / 1000.0,
                load_s: (!ran.timings.warm).then_some(ran.timings.load_ms as f64 / 1000.0),
                from_ram: ran.timings.tier() == Tier::Ram,
            }),
        }));
        events
    }

    /// Registers the runner's incarnation; an earlier one counts as lost.
    fn register(&mut self, runner: &FreeRunner, hints: &mut Hints) -> (Runner, Vec<Event>) {
        let mut events = Vec::new();
        let number = match self.runners.get(&runner.runner) {
            Some(known) if known.epoch == runner.epoch => known.number,
            earlier => {
                if earlier.is_some() {
                    events.extend(self.lost(&runner.runner));
                }
                let number = self.reserve(&runner.runner);
                self.names[number.0 as usize] = Some(runner.runner.clone());
                self.absent.retain(|absent| *absent != runner.runner);
                let listed = runner.models.iter().flatten();
                let listed: Vec<_> = listed.map(|hint| hints.number(hint)).collect();
                events.push(Event::Joined {
                    runner: number,
                    catalog: (!listed.is_empty()).then_some(listed),
                });
                number
            }
        };
        let known = TrackedRunner {
            number,
            epoch: runner.epoch,
            frees: runner.frees,
        };
        self.runners.insert(runner.runner.clone(), known);
        (number, events)
    }

    /// Returns the number of a name, which it keeps while the runner is live or among the latest
    /// [`MAX_ABSENT`] absent ones.
    pub(super) fn reserve(&mut self, name: &RunnerId) -> Runner {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.reclaim().unwrap_or_else(|| {
            self.names.push(None);
            Runner(self.names.len() as u32 - 1)
        });
        self.numbers.insert(name.clone(), number);
        self.absent.push_back(name.clone());
        number
    }

    /// Reclaims the number of the longest absent runner if there are too many.
    fn reclaim(&mut self) -> Option<Runner> {
        let name = match self.absent.len() > MAX_ABSENT {
            true => self.absent.pop_front()?,
            false => return None,
        };
        self.numbers.remove(&name)
    }

    fn lost(&mut self, runner: &RunnerId) -> Option<Event> {
        let known = self.runners.remove(runner)?;
        self.names[known.number.0 as usize] = None;
        self.absent.push_back(runner.clone());
        Some(Event::Lost {
            runner: known.number,
        })
    }
}

/// Returns the runner's models without duplicates, since a report may contain some.
fn memory(runner: &FreeRunner, hints: &mut Hints) -> Memory {
    let mut seen = HashSet::new();
    let mut models = |reported: &[Hint]| {
        let models = reported.iter().map(|hint| hints.number(hint));
        models.filter(|model| seen.insert(*model)).collect()
    };
    Memory {
        cache: models(&runner.hints),
        slots: runner.slots as usize,
        ram: models(&runner.ram_hints),
        ram_slots: runner.ram_slots as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warmq_policy::warm::Model;

    fn free(name: &str, epoch: u64, frees: u64) -> FreeRunner {
        FreeRunner {
            runner: RunnerId::parse(name).unwrap(),
            epoch: Epoch(epoch),
            frees,
            slots: 2,
            hints: vec![Hint::parse("m").unwrap(), Hint::parse("m").unwrap()],
            ram_slots: 0,
            ram_hints: Vec::new(),
            ran: None,
            models: Some(Vec::new()),
        }
    }

    fn joined(number: u32) -> Event {
        Event::Joined {
            runner: Runner(number),
            catalog: None,
        }
    }

    fn is_freed(events: &[Event], number: u32) -> bool {
        matches!(events, [Event::Freed(freed)]
            if freed.runner == Runner(number) && freed.memory.cache == [Model(0)])
    }

    #[test]
    fn a_change_counts_once_whether_an_event_or_a_comparison_comes_first() {
        let (mut tracker, mut hints) = (RunnerTracker::default(), Hints::default());
        let events = tracker.event(RunnerEvent::Freed(free("a", 1, 1)), &mut hints);
        assert_eq!(events[0], joined(0));
        assert!(is_freed(&events[1..], 0));
        // The comparison came first, the event second.
        assert!(is_freed(
            &tracker.state(free("a", 1, 2), true, false, &mut hints),
            0
        ));
        let late = tracker.event(RunnerEvent::Freed(free("a", 1, 2)), &mut hints);
        assert!(late.is_empty());
        let taken = |frees| RunnerEvent::Taken {
            runner: RunnerId::parse("a").unwrap(),
            epoch: Epoch(1),
            frees,
        };
        assert!(tracker.event(taken(1), &mut hints).is_empty());
        let taken = tracker.event(taken(2), &mut hints);
        assert_eq!(taken, [Event::Taken { runner: Runner(0) }]);
        // An event was missed.
        let now = free("a", 1, 4);
        assert!(
            tracker
                .state(now.clone(), false, false, &mut hints)
                .is_empty()
        );
        assert!(is_freed(&tracker.state(now, true, false, &mut hints), 0));
    }

    #[test]
    fn a_new_incarnation_ends_the_old_one_and_its_late_events_are_ignored() {
        let (mut tracker, mut hints) = (RunnerTracker::default(), Hints::default());
        tracker.event(RunnerEvent::Freed(free("a", 1, 7)), &mut hints);
        let events = tracker.event(RunnerEvent::Freed(free("a", 2, 1)), &mut hints);
        assert_eq!(events[0], Event::Lost { runner: Runner(0) });
        assert_eq!(events[1], joined(0));
        assert!(is_freed(&events[2..], 0));
        let old = tracker.event(RunnerEvent::Freed(free("a", 1, 8)), &mut hints);
        assert!(old.is_empty());
        let gone = |epoch| RunnerEvent::Gone {
            runner: RunnerId::parse("a").unwrap(),
            epoch: Epoch(epoch),
        };
        assert!(tracker.event(gone(1), &mut hints).is_empty());
        assert_eq!(
            tracker.event(gone(2), &mut hints),
            [Event::Lost { runner: Runner(0) }]
        );
        assert_eq!(tracker.name(Runner(0)), None);
    }

    #[test]
    fn a_comparison_finds_new_changed_and_lost_runners() {
        let (mut tracker, mut hints) = (RunnerTracker::default(), Hints::default());
        for name in ["a", "b", "c"] {
            tracker.event(RunnerEvent::Freed(free(name, 1, 1)), &mut hints);
        }
        let availability = |name, epoch, idle| RunnerAvailability {
            runner: RunnerId::parse(name).unwrap(),
            epoch: Epoch(epoch),
            frees: 1,
            idle,
        };
        let availabilities = [
            availability("a", 1, true),
            availability("b", 1, false),
            availability("d", 1, false),
        ];
        let (unclear, lost) = tracker.compare(&availabilities, |_| true);
        assert_eq!(lost, [Event::Lost { runner: Runner(2) }]);
        let names: Vec<&str> = unclear.iter().map(RunnerId::as_str).collect();
        assert_eq!(names, ["b", "d"]);
        let taken = tracker.state(free("b", 1, 1), false, true, &mut hints);
        assert_eq!(taken, [Event::Taken { runner: Runner(1) }]);
        let found = tracker.state(free("d", 1, 1), false, false, &mut hints);
        assert_eq!(found[0], joined(3));
        assert!(matches!(&found[1..], [Event::Found(found)] if found.runner == Runner(3)));
    }

    #[test]
    fn a_runner_whose_first_event_was_missed_joins_once_its_catalog_is_read() {
        let (mut tracker, mut hints) = (RunnerTracker::default(), Hints::default());
        let later = FreeRunner {
            models: None,
            ..free("a", 1, 2)
        };
        let events = tracker.event(RunnerEvent::Freed(later), &mut hints);
        assert_eq!(events, []);
        let read = FreeRunner {
            models: Some(vec![Hint::parse("m").unwrap(), Hint::parse("n").unwrap()]),
            ..free("a", 1, 2)
        };
        let events = tracker.state(read, true, false, &mut hints);
        let catalog = Some(vec![Model(0), Model(1)]);
        let runner = Runner(0);
        assert_eq!(events[0], Event::Joined { runner, catalog });
        assert!(is_freed(&events[1..], 0));
    }

    #[test]
    fn a_returning_runner_has_its_number_again_unless_many_others_left_since() {
        let (mut tracker, mut hints) = (RunnerTracker::default(), Hints::default());
        let a = RunnerId::parse("a").unwrap();
        let avoided = tracker.reserve(&a);
        assert_eq!(tracker.name(avoided), None);
        for epoch in 1..4 {
            let events = tracker.event(RunnerEvent::Freed(free("a", epoch, 1)), &mut hints);
            assert!(is_freed(&events[events.len() - 1..], avoided.0));
        }
        tracker.lost(&a);
        for other in 0..MAX_ABSENT {
            let other = RunnerId::parse(&format!("b{other}")).unwrap();
            assert_ne!(tracker.reserve(&other), avoided);
        }
        let last = RunnerId::parse("c").unwrap();
        assert_eq!(tracker.reserve(&last), avoided);
        assert_ne!(tracker.reserve(&a), avoided);
    }
}
