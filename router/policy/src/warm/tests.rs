//! Each rule in one small story. S = 2 s and L = 10 s, the priors, so D = 60 s, theta · L = 20 s
//! and R = 100 s.

use super::*;

const FOREVER_S: f64 = f64::INFINITY;

struct Story {
    policy: Warm,
}

impl Story {
    fn new() -> Self {
        Self::with(Constants::default())
    }

    fn with(constants: Constants) -> Self {
        Self {
            policy: Warm::new(constants),
        }
    }

    /// A runner is free and holds these models; it has no more slots than that, but at least one.
    fn free(&mut self, now_s: f64, runner: u32, cache: &[u32]) -> Vec<Command> {
        self.free_with_slots(now_s, runner, cache, cache.len().max(1))
    }

    fn free_with_slots(
        &mut self,
        now_s: f64,
        runner: u32,
        cache: &[u32],
        slots: usize,
    ) -> Vec<Command> {
        let freed = Freed {
            runner: Runner(runner),
            cache: cache.iter().copied().map(Model).collect(),
            slots,
            ran: None,
        };
        self.policy.on(now_s, Event::Freed(freed), 0)
    }

    fn joined(&mut self, now_s: f64, runner: u32, catalog: &[u32]) {
        let catalog = Some(catalog.iter().copied().map(Model).collect());
        let runner = Runner(runner);
        self.policy.on(now_s, Event::Joined { runner, catalog }, 0);
    }

    fn lost(&mut self, now_s: f64, runner: u32) -> Vec<Command> {
        let runner = Runner(runner);
        self.policy.on(now_s, Event::Lost { runner }, 0)
    }

    fn arrive(
        &mut self,
        now_s: f64,
        job: u64,
        model: u32,
        change: fn(&mut Arrival),
    ) -> Vec<Command> {
        let mut arrival = Arrival {
            job: Job(job),
            model: Some(Model(model)),
            priority: Priority::Normal,
            since_s: now_s,
            max_warm_wait_s: FOREVER_S,
            returned: false,
            avoid: Avoid::NONE,
        };
        change(&mut arrival);
        self.policy.on(now_s, Event::Arrived(arrival), 0)
    }

    fn job(&mut self, now_s: f64, job: u64, model: u32) -> Vec<Command> {
        self.arrive(now_s, job, model, |_| {})
    }

    fn due(&mut self, now_s: f64) -> Vec<Command> {
        self.policy.on(now_s, Event::Due, 0)
    }
}

/// What was sent: job, runner, rule.
fn sent(commands: &[Command]) -> Vec<(u64, u32, Why)> {
    let send = |command: &Command| match command {
        Command::Send {
            job, runner, why, ..
        } => Some((job.0, runner.0, *why)),
        _ => None,
    };
    commands.iter().filter_map(send).collect()
}

/// The jobs held: until when, and their predicted wait, s.
fn held(commands: &[Command]) -> Vec<(u64, f64, f64)> {
    let hold = |command: &Command| match command {
        Command::Hold {
            job,
            until_s,
            wait_s,
            ..
        } => Some((job.0, *until_s, *wait_s)),
        _ => None,
    };
    commands.iter().filter_map(hold).collect()
}

/// Runner 0 has model 0 and runs job 0 for two more seconds; runner 1 is idle with the last copy of
/// model 1.
fn a_holder_at_work_and_an_idle_stranger() -> Story {
    let mut story = Story::new();
    story.free(0.0, 0, &[0]);
    story.free(0.0, 1, &[1]);
    assert_eq!(sent(&story.job(0.0, 0, 0)), [(0, 0, Why::WarmAndIdle)]);
    story
}

#[test]
fn a_job_waits_for_its_holder_rather_than_evict_a_last_copy() {
    let mut story = a_holder_at_work_and_an_idle_stranger();
    assert_eq!(held(&story.job(0.0, 1, 0)), [(1, 20.0, 2.0)]);
    assert_eq!(sent(&story.free(2.0, 0, &[0])), [(1, 0, Why::LateBinding)]);
}

#[test]
fn a_hot_model_gets_another_copy_sooner_where_there_is_room_and_later_where_one_is_evicted() {
    // Runner 0 runs for 2 s and three jobs wait for it: the next would wait for 8 s.
    let queued = || {
        let mut story = Story::new();
        story.free(0.0, 0, &[0]);
        for job in 0..4 {
            story.job(0.0, job, 0);
        }
        story
    };
    let copied = |runner, bar_s| {
        let wait_s = 8.0;
        [(1, runner, Why::Replicated { wait_s, bar_s })]
    };
    let mut room = queued();
    let commands = room.free_with_slots(0.0, 1, &[1], 2);
    assert_eq!(sent(&commands), copied(1, 3.0));
    let mut spare = queued();
    assert_eq!(sent(&spare.free(0.0, 1, &[1])), [], "a last copy gives way");
    assert_eq!(sent(&spare.free(0.0, 2, &[1])), copied(2, 6.0));
}

#[test]
fn jobs_wait_for_a_first_copy_that_loads_rather_than_load_it_beside() {
    let mut story = Story::new();
    for runner in 0..8 {
        story.free(0.0, runner, &[]);
    }
    let first = sent(&story.job(0.0, 0, 0));
    assert_eq!(first[0].2, Why::NoHolder);
    // Until the wait is above theta · L: 12 s for the first job, and 2 s for each that waits.
    for job in 1..6 {
        assert_eq!(held(&story.job(0.0, job, 0)).len(), 1);
    }
    let (wait_s, bar_s) = (22.0, 20.0);
    let sixth = sent(&story.job(0.0, 6, 0));
    assert_eq!(sixth[0].2, Why::Replicated { wait_s, bar_s });
}

#[test]
fn a_runner_serves_the_oldest_job_of_all_its_models() {
    let mut story = Story::new();
    story.free(0.0, 0, &[0, 1]);
    story.job(0.0, 0, 0);
    story.job(0.1, 1, 1);
    story.job(0.2, 2, 0);
    let commands = story.free(2.0, 0, &[0, 1]);
    assert_eq!(sent(&commands), [(1, 0, Why::LateBinding)]);
}

#[test]
fn who_must_load_serves_the_longest_queue() {
    let mut story = Story::new();
    story.free(0.0, 0, &[0]);
    story.job(0.0, 0, 0);
    story.job(0.1, 1, 1);
    story.job(0.2, 2, 2);
    story.job(0.3, 3, 2);
    let commands = story.free(2.0, 0, &[0]);
    assert_eq!(sent(&commands), [(2, 0, Why::NoHolder)]);
}

#[test]
fn an_overdue_job_breaks_into_warm_work_once_residency_is_over() {
    for (freed_s, expected) in [
        (150.0, (1, 0, Why::LateBinding)),
        (201.0, (2, 0, Why::Overdue)),
    ] {
        let mut story = Story::new();
        story.free(100.0, 0, &[]);
        // A swap, at 100 s.
        story.job(100.0, 0, 0);
        story.arrive(101.0, 2, 1, |arrival| arrival.since_s = 41.0);
        story.job(101.0, 1, 0);
        assert_eq!(sent(&story.free(freed_s, 0, &[0])), [expected]);
    }
}

#[test]
fn a_runner_that_swaps_anyway_swaps_for_an_overdue_job_before_a_longer_queue() {
    let mut story = Story::new();
    story.free(100.0, 0, &[]);
    story.job(100.0, 0, 0);
    story.arrive(101.0, 1, 1, |arrival| arrival.since_s = 41.0);
    story.job(102.0, 2, 2);
    story.job(102.0, 3, 2);
    let commands = story.free(112.0, 0, &[0]);
    assert_eq!(sent(&commands), [(1, 0, Why::Overdue)]);
}

#[test]
fn a_job_past_its_deadline_is_found_beyond_those_that_a_decision_scans() {
    let mut story = Story::with(Constants {
        scan: 1,
        ..Constants::default()
    });
    story.free(0.0, 0, &[0]);
    story.free(0.0, 1, &[1]);
    story.job(0.0, 0, 0);
    story.job(0.0, 1, 1);
    // Both wait for runner 0; the younger has less patience.
    story.job(0.1, 2, 0);
    story.arrive(0.2, 3, 0, |arrival| arrival.max_warm_wait_s = 0.5);
    assert_eq!(sent(&story.due(0.7)), []);
    let commands = story.free(1.0, 1, &[1]);
    assert_eq!(sent(&commands), [(3, 1, Why::BoundPassed)]);
}

#[test]
fn nobody_is_held_for_warmth_beyond_the_age_at_which_order_wins() {
    let mut story = a_holder_at_work_and_an_idle_stranger();
    let commands = story.arrive(57.0, 1, 0, |arrival| arrival.since_s = 0.0);
    assert_eq!(held(&commands)[0].1, 60.0);
}

#[test]
fn jobs_whose_last_holder_is_lost_go_to_whoever_is_idle() {
    let mut story = a_holder_at_work_and_an_idle_stranger();
    story.job(0.0, 1, 0);
    let commands = story.lost(1.0, 0);
    assert_eq!(sent(&commands), [(1, 1, Why::NoHolder)]);
}

#[test]
fn a_low_job_expects_to_wait_for_all_normal_ones() {
    let mut story = a_holder_at_work_and_an_idle_stranger();
    for job in 1..=3 {
        story.job(0.0, job, 0);
    }
    let commands = story.arrive(0.0, 4, 0, |arrival| arrival.priority = Priority::Low);
    assert_eq!(held(&commands), [(4, 20.0, 8.0)]);
}

/// Runner 1 is idle with model 1. Normal jobs 2 to 6 wait for model 0, low job 7 too, with little
/// patience. One of two holders is lost, so that waiting no longer pays, but no event
/// has offered runner 1 since.
fn an_idle_runner_that_normal_jobs_want_by_now() -> Story {
    let mut story = Story::new();
    story.free(0.0, 0, &[]);
    story.job(0.0, 0, 0);
    story.free(0.0, 2, &[0]);
    story.job(0.0, 1, 0);
    story.free(0.0, 1, &[1]);
    for job in 2..=6 {
        assert_eq!(held(&story.job(0.0, job, 0)).len(), 1);
    }
    story.arrive(0.0, 7, 0, |arrival| {
        arrival.priority = Priority::Low;
        arrival.max_warm_wait_s = 0.5;
    });
    assert_eq!(sent(&story.lost(0.1, 2)), []);
    story
}

#[test]
fn a_low_job_that_arrives_takes_no_runner_that_a_normal_one_wants_by_now() {
    let mut story = an_idle_runner_that_normal_jobs_want_by_now();
    let commands = story.arrive(0.1, 8, 1, |arrival| arrival.priority = Priority::Low);
    let [(2, 1, Why::Replicated { .. })] = sent(&commands)[..] else {
        unreachable!("not {commands:?}");
    };
}

#[test]
fn a_low_job_whose_patience_ends_takes_no_runner_that_a_normal_one_wants_by_now() {
    let mut story = an_idle_runner_that_normal_jobs_want_by_now();
    let commands = story.due(0.5);
    let [(2, 1, Why::Replicated { .. })] = sent(&commands)[..] else {
        unreachable!("not {commands:?}");
    };
}

#[test]
fn a_low_job_past_its_bound_waits_for_normal_jobs_and_precedes_low_ones() {
    let mut story = Story::new();
    story.free(0.0, 0, &[0]);
    story.job(0.0, 0, 0);
    let low = |arrival: &mut Arrival| arrival.priority = Priority::Low;
    story.arrive(0.0, 1, 0, low);
    let bounded = story.arrive(0.1, 2, 1, |arrival| {
        arrival.priority = Priority::Low;
        arrival.max_warm_wait_s = 1.0;
    });
    let [Command::Hold { bounded, .. }] = bounded[..] else {
        unreachable!("not {bounded:?}");
    };
    assert!(!bounded);
    story.job(3.0, 3, 0);
    story.due(3.0);
    assert_eq!(sent(&story.free(4.0, 0, &[0])), [(3, 0, Why::LateBinding)]);
    assert_eq!(sent(&story.free(6.0, 0, &[0])), [(2, 0, Why::BoundPassed)]);
    assert_eq!(sent(&story.free(8.0, 0, &[0])), [(1, 0, Why::LateBinding)]);
}

/// A job of model 0 that came to nothing under runner 0.
fn once_more(arrival: &mut Arrival) {
    (arrival.returned, arrival.avoid) = (true, Avoid::from_iter([Runner(0)]));
}

#[test]
fn a_job_goes_elsewhere_after_an_attempt_came_to_nothing_though_it_is_cold_there() {
    let mut story = Story::new();
    story.free(0.0, 0, &[0]);
    story.free(0.0, 1, &[1]);
    let placed = story.arrive(0.0, 0, 0, once_more);
    assert_eq!(sent(&placed), [(0, 1, Why::AnotherRunner)]);
    let without_hint = |arrival: &mut Arrival| {
        once_more(arrival);
        arrival.model = None;
    };
    story.free(1.0, 2, &[2]);
    let placed = story.arrive(1.0, 1, 0, without_hint);
    assert_eq!(sent(&placed), [(1, 2, Why::AnotherRunner)]);
}

#[test]
fn every_runner_on_which_an_attempt_failed_is_avoided() {
    let mut story = Story::new();
    story.free(0.0, 0, &[0]);
    story.free(0.0, 1, &[0]);
    story.free(0.0, 2, &[2]);
    let placed = story.arrive(0.0, 0, 0, |arrival| {
        once_more(arrival);
        arrival.avoid = Avoid::from_iter([Runner(0), Runner(1)]);
    });
    assert_eq!(sent(&placed), [(0, 2, Why::AnotherRunner)]);
}

#[test]
fn a_job_waits_for_another_runner_until_its_patience_is_over() {
    // Runner 1 is at work when the job comes; runner 0, on which it failed, is idle or comes free.
    let story = || {
        let mut story = Story::new();
        story.free(0.0, 1, &[1]);
        story.job(0.0, 9, 1);
        story.free(0.0, 0, &[0]);
        let placed = story.arrive(0.0, 0, 0, once_more);
        let Command::Hold {
            until_s,
            bounded,
            for_another,
            ..
        } = placed[0]
        else {
            unreachable!("not {placed:?}");
        };
        assert_eq!((until_s, bounded, for_another), (20.0, false, true));
        assert_eq!(sent(&story.free(1.0, 0, &[0])), []);
        story
    };
    let idle_unavoided = [(0, 1, Why::BoundPassed)];
    assert_eq!(sent(&story().free(2.0, 1, &[1])), idle_unavoided);
    assert_eq!(sent(&story().due(20.0)), [(0, 0, Why::BoundPassed)]);
    // No other runner is left.
    assert_eq!(sent(&story().lost(2.0, 1)), [(0, 0, Why::BoundPassed)]);
    // Another job takes the runner meanwhile.
    let next = sent(&story().job(2.0, 5, 0));
    assert_eq!(next, [(5, 0, Why::WarmAndIdle)]);
}

#[test]
fn a_runner_that_may_not_have_the_oldest_job_takes_the_next_one_of_its_model() {
    let mut story = Story::new();
    story.free(0.0, 0, &[0]);
    story.free(0.0, 1, &[1]);
    story.job(0.0, 8, 0);
    story.job(0.0, 9, 1);
    story.arrive(0.0, 0, 0, once_more);
    story.arrive(0.0, 1, 0, |arrival| {
        once_more(arrival);
        arrival.model = None;
    });
    story.job(0.1, 2, 0);
    assert_eq!(sent(&story.free(2.0, 0, &[0])), [(2, 0, Why::LateBinding)]);
    assert_eq!(sent(&story.free(2.0, 0, &[0])), []);
}

#[test]
fn a_runner_that_cannot_load_the_model_is_no_other() {
    let mut story = Story::new();
    story.joined(0.0, 0, &[0]);
    story.joined(0.0, 1, &[1]);
    story.free(0.0, 0, &[0]);
    story.free(0.0, 1, &[1]);
    story.job(0.0, 9, 1);
    let placed = story.arrive(0.0, 0, 0, once_more);
    assert_eq!(sent(&placed), [(0, 0, Why::WarmAndIdle)]);
}

#[test]
fn a_job_goes_to_the_same_runner_again_where_there_is_no_other() {
    let mut story = Story::new();
    story.free(0.0, 0, &[0]);
    let placed = story.arrive(0.0, 0, 0, once_more);
    assert_eq!(sent(&placed), [(0, 0, Why::WarmAndIdle)]);
}

#[test]
fn a_job_without_hint_goes_to_the_idle_runner_that_it_costs_the_others_least() {
    let mut story = Story::new();
    story.free(0.0, 0, &[0]);
    // Model 0 is asked for, model 1 is not.
    story.job(0.0, 0, 0);
    story.free(2.0, 0, &[0]);
    story.free(2.0, 1, &[1]);
    let no_hint = |arrival: &mut Arrival| arrival.model = None;
    let commands = story.arrive(2.0, 1, 0, no_hint);
    assert_eq!(sent(&commands), [(1, 1, Why::NoHintAndIdle)]);
    let commands = story.arrive(2.0, 2, 0, no_hint);
    assert_eq!(sent(&commands), [(2, 0, Why::NoHintAndIdle)]);
    assert_eq!(held(&story.arrive(2.0, 3, 0, no_hint)).len(), 1);
}

#[test]
fn a_job_past_its_own_bound_precedes_all_that_a_runner_is_warm_for() {
    for (bound_s, expected) in [
        (0.0, (9, 0, Why::BoundPassed)),
        (1.5, (9, 0, Why::BoundPassed)),
        (3.0, (1, 0, Why::LateBinding)),
    ] {
        let mut story = Story::new();
        story.free(0.0, 0, &[0]);
        for job in 0..4 {
            story.job(0.0, job, 0);
        }
        story.free_with_slots(0.0, 1, &[1], 1);
        story.job(0.0, 8, 1);
        let arrival = Arrival {
            job: Job(9),
            model: Some(Model(1)),
            priority: Priority::Normal,
            since_s: 0.1,
            max_warm_wait_s: bound_s,
            returned: false,
            avoid: Avoid::NONE,
        };
        let commands = story.policy.on(0.1, Event::Arrived(arrival), 0);
        assert_eq!(held(&commands).len(), 1);
        story.due(1.9);
        assert_eq!(sent(&story.free(2.0, 0, &[0])), [expected], "{bound_s}");
    }
}

#[test]
fn jobs_past_their_bounds_go_in_the_order_of_these_and_after_what_was_overdue_before() {
    let mut story = Story::new();
    story.free(0.0, 0, &[0]);
    story.job(0.0, 0, 0);
    story.arrive(100.0, 1, 1, |arrival| arrival.max_warm_wait_s = 3.0);
    story.arrive(100.1, 2, 2, |arrival| arrival.max_warm_wait_s = 1.0);
    // Overdue, at 102 s.
    story.arrive(100.2, 3, 3, |arrival| arrival.since_s = 42.0);
    // Without hint, before the last bound passed.
    story.arrive(102.5, 4, 4, |arrival| arrival.model = None);
    story.due(104.0);
    let order = [
        (2, Why::BoundPassed),
        // The runner has just swapped, and this one costs no other swap.
        (4, Why::NoHint),
        (3, Why::Overdue),
        (1, Why::BoundPassed),
    ];
    for (job, why) in order {
        assert_eq!(sent(&story.free(104.0, 0, &[0])), [(job, 0, why)]);
    }
}

#[test]
fn a_job_goes_only_to_a_runner_that_can_load_its_model() {
    let mut story = Story::new();
    story.joined(0.0, 0, &[0]);
    story.joined(0.0, 1, &[0, 1]);
    story.free(0.0, 0, &[]);
    assert_eq!(sent(&story.free(0.0, 1, &[])), []);
    assert_eq!(sent(&story.job(0.0, 0, 1)), [(0, 1, Why::NoHolder)]);
    // The one that can is busy, and the idle one cannot, however long it takes.
    assert_eq!(sent(&story.job(0.0, 1, 1)), []);
    assert_eq!(
        sent(&story.arrive(0.0, 2, 1, |job| job.max_warm_wait_s = 0.0)),
        []
    );
    assert_eq!(
        sent(&story.arrive(0.0, 3, 1, |job| job.returned = true)),
        []
    );
    assert_eq!(sent(&story.due(500.0)), []);
    assert_eq!(sent(&story.free(500.0, 0, &[])), []);
    // Jobs that the idle one can run pass them.
    assert_eq!(sent(&story.job(500.0, 4, 0)), [(4, 0, Why::NoHolder)]);
    let next = sent(&story.free(501.0, 1, &[1]));
    assert!(matches!(next[..], [(1..=3, 1, _)]), "{next:?}");
}

#[test]
fn a_runner_that_holds_a_model_which_it_no_longer_lists_gets_no_job_for_it() {
    let mut story = Story::new();
    story.joined(0.0, 0, &[0]);
    story.joined(0.0, 1, &[1]);
    story.free(0.0, 0, &[1]);
    story.free(0.0, 1, &[]);
    assert_eq!(sent(&story.job(0.0, 0, 1)), []);
    assert_eq!(sent(&story.free(1.0, 0, &[1])), []);
    assert_eq!(sent(&story.due(20.0)), [(0, 1, Why::PatienceOver)]);
}

#[test]
fn a_model_whose_runners_are_gone_is_waited_for_and_one_that_none_ever_had_is_not() {
    let mut story = Story::new();
    story.joined(0.0, 0, &[0]);
    story.joined(0.0, 1, &[1]);
    story.free(0.0, 0, &[0]);
    story.lost(1.0, 1);
    assert_eq!(sent(&story.job(2.0, 0, 1)), []);
    assert_eq!(sent(&story.job(3.0, 1, 7)), [(1, 0, Why::NoHolder)]);
    story.joined(4.0, 2, &[1]);
    assert_eq!(sent(&story.free(4.0, 2, &[])), [(0, 2, Why::NoHolder)]);
}
