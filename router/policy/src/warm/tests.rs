//! One scenario per rule. S = 2 s and L = 10 s, the priors, so D = 60 s, theta · L = 20 s
//! and R = 100 s.

use super::*;

const FOREVER_S: f64 = f64::INFINITY;

struct Scenario {
    policy: Warm,
}

impl Scenario {
    fn new() -> Self {
        Self::with(Constants::default())
    }

    fn with(constants: Constants) -> Self {
        Self {
            policy: Warm::new(constants),
        }
    }

    /// Reports a free runner with these models, as many slots, and at least one slot.
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
        self.free_with(now_s, runner, memory(cache, slots, &[], 0))
    }

    fn free_with(&mut self, now_s: f64, runner: u32, memory: Memory) -> Vec<Command> {
        let freed = Freed {
            runner: Runner(runner),
            memory,
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

fn memory(cache: &[u32], slots: usize, ram: &[u32], ram_slots: usize) -> Memory {
    Memory {
        cache: cache.iter().copied().map(Model).collect(),
        slots,
        ram: ram.iter().copied().map(Model).collect(),
        ram_slots,
    }
}

/// Returns the sends: job, runner, rule.
fn sent(commands: &[Command]) -> Vec<(u64, u32, Why)> {
    let send = |command: &Command| match command {
        Command::Send(send) => Some((send.job.0, send.runner.0, send.why)),
        Command::Hold(_) => None,
    };
    commands.iter().filter_map(send).collect()
}

/// Returns the holds: job, deadline, predicted wait, s.
fn held(commands: &[Command]) -> Vec<(u64, f64, f64)> {
    let hold = |command: &Command| match command {
        Command::Hold(hold) => Some((hold.job.0, hold.until_s, hold.wait_s)),
        Command::Send(_) => None,
    };
    commands.iter().filter_map(hold).collect()
}

/// Runner 0 holds model 0 and runs job 0 for 2 s; runner 1 is idle with the last copy of model 1.
fn a_busy_holder_and_another_idle_runner() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    scenario.free(0.0, 1, &[1]);
    assert_eq!(sent(&scenario.job(0.0, 0, 0)), [(0, 0, Why::WarmAndIdle)]);
    scenario
}

#[test]
fn a_job_waits_for_its_holder_instead_of_evicting_a_last_copy() {
    let mut scenario = a_busy_holder_and_another_idle_runner();
    assert_eq!(held(&scenario.job(0.0, 1, 0)), [(1, 20.0, 2.0)]);
    assert_eq!(
        sent(&scenario.free(2.0, 0, &[0])),
        [(1, 0, Why::LateBinding)]
    );
}

#[test]
fn a_hot_model_gets_another_copy_sooner_if_there_is_room_and_later_if_one_is_evicted() {
    // Runner 0 runs for 2 s, and three jobs wait for it: the next one would wait 8 s.
    let queued = || {
        let mut scenario = Scenario::new();
        scenario.free(0.0, 0, &[0]);
        for job in 0..4 {
            scenario.job(0.0, job, 0);
        }
        scenario
    };
    let copied = |runner, bar_s| {
        let wait_s = 8.0;
        [(1, runner, Why::Replicated { wait_s, bar_s })]
    };
    let mut room = queued();
    let commands = room.free_with_slots(0.0, 1, &[1], 2);
    assert_eq!(sent(&commands), copied(1, 3.0));
    let mut spare = queued();
    assert_eq!(
        sent(&spare.free(0.0, 1, &[1])),
        [],
        "a last copy is evicted"
    );
    assert_eq!(sent(&spare.free(0.0, 2, &[1])), copied(2, 6.0));
}

#[test]
fn jobs_wait_for_a_first_copy_that_loads_instead_of_loading_another() {
    let mut scenario = Scenario::new();
    for runner in 0..8 {
        scenario.free(0.0, runner, &[]);
    }
    let first = sent(&scenario.job(0.0, 0, 0));
    assert_eq!(first[0].2, Why::NoHolder);
    // Until the wait exceeds theta · L: 12 s for the first job, and 2 s for each held one.
    for job in 1..6 {
        assert_eq!(held(&scenario.job(0.0, job, 0)).len(), 1);
    }
    let (wait_s, bar_s) = (22.0, 20.0);
    let sixth = sent(&scenario.job(0.0, 6, 0));
    assert_eq!(sixth[0].2, Why::Replicated { wait_s, bar_s });
}

#[test]
fn a_runner_serves_the_oldest_job_of_all_its_models() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0, 1]);
    scenario.job(0.0, 0, 0);
    scenario.job(0.1, 1, 1);
    scenario.job(0.2, 2, 0);
    let commands = scenario.free(2.0, 0, &[0, 1]);
    assert_eq!(sent(&commands), [(1, 0, Why::LateBinding)]);
}

#[test]
fn a_runner_that_must_load_serves_the_longest_queue() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    scenario.job(0.0, 0, 0);
    scenario.job(0.1, 1, 1);
    scenario.job(0.2, 2, 2);
    scenario.job(0.3, 3, 2);
    let commands = scenario.free(2.0, 0, &[0]);
    assert_eq!(sent(&commands), [(2, 0, Why::NoHolder)]);
}

#[test]
fn an_overdue_job_precedes_warm_jobs_once_residency_is_over() {
    for (freed_s, expected) in [
        (150.0, (1, 0, Why::LateBinding)),
        (201.0, (2, 0, Why::Overdue)),
    ] {
        let mut scenario = Scenario::new();
        scenario.free(100.0, 0, &[]);
        // A swap, at 100 s.
        scenario.job(100.0, 0, 0);
        scenario.arrive(101.0, 2, 1, |arrival| arrival.since_s = 41.0);
        scenario.job(101.0, 1, 0);
        assert_eq!(sent(&scenario.free(freed_s, 0, &[0])), [expected]);
    }
}

#[test]
fn a_runner_that_swaps_anyway_swaps_for_an_overdue_job_before_a_longer_queue() {
    let mut scenario = Scenario::new();
    scenario.free(100.0, 0, &[]);
    scenario.job(100.0, 0, 0);
    scenario.arrive(101.0, 1, 1, |arrival| arrival.since_s = 41.0);
    scenario.job(102.0, 2, 2);
    scenario.job(102.0, 3, 2);
    let commands = scenario.free(112.0, 0, &[0]);
    assert_eq!(sent(&commands), [(1, 0, Why::Overdue)]);
}

#[test]
fn a_job_past_its_deadline_is_sent_even_if_a_decision_does_not_scan_it() {
    let mut scenario = Scenario::with(Constants {
        scan: 1,
        ..Constants::default()
    });
    scenario.free(0.0, 0, &[0]);
    scenario.free(0.0, 1, &[1]);
    scenario.job(0.0, 0, 0);
    scenario.job(0.0, 1, 1);
    // Both wait for runner 0; the younger one has less patience.
    scenario.job(0.1, 2, 0);
    scenario.arrive(0.2, 3, 0, |arrival| arrival.max_warm_wait_s = 0.5);
    assert_eq!(sent(&scenario.due(0.7)), []);
    let commands = scenario.free(1.0, 1, &[1]);
    assert_eq!(sent(&commands), [(3, 1, Why::BoundPassed)]);
}

#[test]
fn no_job_is_held_for_warmth_beyond_the_age_at_which_order_wins() {
    let mut scenario = a_busy_holder_and_another_idle_runner();
    let commands = scenario.arrive(57.0, 1, 0, |arrival| arrival.since_s = 0.0);
    assert_eq!(held(&commands)[0].1, 60.0);
}

#[test]
fn jobs_whose_last_holder_is_lost_go_to_an_idle_runner() {
    let mut scenario = a_busy_holder_and_another_idle_runner();
    scenario.job(0.0, 1, 0);
    let commands = scenario.lost(1.0, 0);
    assert_eq!(sent(&commands), [(1, 1, Why::NoHolder)]);
}

#[test]
fn a_low_job_is_predicted_to_wait_for_all_normal_ones() {
    let mut scenario = a_busy_holder_and_another_idle_runner();
    for job in 1..=3 {
        scenario.job(0.0, job, 0);
    }
    let commands = scenario.arrive(0.0, 4, 0, |arrival| arrival.priority = Priority::Low);
    assert_eq!(held(&commands), [(4, 20.0, 8.0)]);
}

/// Runner 1 is idle with model 1. Normal jobs 2 to 6 wait for model 0, and so does low job 7, with
/// little patience. One of two holders is lost, so waiting no longer pays, but no event has offered
/// runner 1 since.
fn an_idle_runner_that_a_normal_job_may_take_by_now() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[]);
    scenario.job(0.0, 0, 0);
    scenario.free(0.0, 2, &[0]);
    scenario.job(0.0, 1, 0);
    scenario.free(0.0, 1, &[1]);
    for job in 2..=6 {
        assert_eq!(held(&scenario.job(0.0, job, 0)).len(), 1);
    }
    scenario.arrive(0.0, 7, 0, |arrival| {
        arrival.priority = Priority::Low;
        arrival.max_warm_wait_s = 0.5;
    });
    assert_eq!(sent(&scenario.lost(0.1, 2)), []);
    scenario
}

#[test]
fn a_low_job_that_arrives_takes_no_runner_that_a_normal_one_may_take_by_now() {
    let mut scenario = an_idle_runner_that_a_normal_job_may_take_by_now();
    let commands = scenario.arrive(0.1, 8, 1, |arrival| arrival.priority = Priority::Low);
    let [(2, 1, Why::Replicated { .. })] = sent(&commands)[..] else {
        unreachable!("not {commands:?}");
    };
}

#[test]
fn a_low_job_whose_patience_ends_takes_no_runner_that_a_normal_one_may_take_by_now() {
    let mut scenario = an_idle_runner_that_a_normal_job_may_take_by_now();
    let commands = scenario.due(0.5);
    let [(2, 1, Why::Replicated { .. })] = sent(&commands)[..] else {
        unreachable!("not {commands:?}");
    };
}

#[test]
fn a_low_job_past_its_bound_waits_for_normal_jobs_and_precedes_low_ones() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    scenario.job(0.0, 0, 0);
    let low = |arrival: &mut Arrival| arrival.priority = Priority::Low;
    scenario.arrive(0.0, 1, 0, low);
    let bounded = scenario.arrive(0.1, 2, 1, |arrival| {
        arrival.priority = Priority::Low;
        arrival.max_warm_wait_s = 1.0;
    });
    let [Command::Hold(hold)] = bounded[..] else {
        unreachable!("not {bounded:?}");
    };
    assert!(!hold.bounded);
    scenario.job(3.0, 3, 0);
    scenario.due(3.0);
    assert_eq!(
        sent(&scenario.free(4.0, 0, &[0])),
        [(3, 0, Why::LateBinding)]
    );
    assert_eq!(
        sent(&scenario.free(6.0, 0, &[0])),
        [(2, 0, Why::BoundPassed)]
    );
    assert_eq!(
        sent(&scenario.free(8.0, 0, &[0])),
        [(1, 0, Why::LateBinding)]
    );
}

/// Makes the arrival that of a job whose attempt failed on runner 0.
fn after_failed_attempt(arrival: &mut Arrival) {
    (arrival.returned, arrival.avoid) = (true, Avoid::from_iter([Runner(0)]));
}

#[test]
fn a_job_goes_to_another_runner_after_a_failed_attempt_even_if_it_is_cold_there() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    scenario.free(0.0, 1, &[1]);
    let placed = scenario.arrive(0.0, 0, 0, after_failed_attempt);
    assert_eq!(sent(&placed), [(0, 1, Why::AnotherRunner)]);
    let without_hint = |arrival: &mut Arrival| {
        after_failed_attempt(arrival);
        arrival.model = None;
    };
    scenario.free(1.0, 2, &[2]);
    let placed = scenario.arrive(1.0, 1, 0, without_hint);
    assert_eq!(sent(&placed), [(1, 2, Why::AnotherRunner)]);
}

#[test]
fn every_runner_on_which_an_attempt_failed_is_avoided() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    scenario.free(0.0, 1, &[0]);
    scenario.free(0.0, 2, &[2]);
    let placed = scenario.arrive(0.0, 0, 0, |arrival| {
        after_failed_attempt(arrival);
        arrival.avoid = Avoid::from_iter([Runner(0), Runner(1)]);
    });
    assert_eq!(sent(&placed), [(0, 2, Why::AnotherRunner)]);
}

#[test]
fn a_job_waits_for_another_runner_until_its_patience_is_over() {
    // Runner 1 is busy on arrival; runner 0, on which an attempt failed, is idle or comes free.
    let scenario = || {
        let mut scenario = Scenario::new();
        scenario.free(0.0, 1, &[1]);
        scenario.job(0.0, 9, 1);
        scenario.free(0.0, 0, &[0]);
        let placed = scenario.arrive(0.0, 0, 0, after_failed_attempt);
        let [Command::Hold(hold)] = placed[..] else {
            unreachable!("not {placed:?}");
        };
        assert_eq!(hold.until_s, 20.0);
        assert!(hold.for_another && !hold.bounded);
        assert_eq!(sent(&scenario.free(1.0, 0, &[0])), []);
        scenario
    };
    let idle_unavoided = [(0, 1, Why::BoundPassed)];
    assert_eq!(sent(&scenario().free(2.0, 1, &[1])), idle_unavoided);
    assert_eq!(sent(&scenario().due(20.0)), [(0, 0, Why::BoundPassed)]);
    // No other runner is left.
    assert_eq!(sent(&scenario().lost(2.0, 1)), [(0, 0, Why::BoundPassed)]);
    // Another job takes the runner meanwhile.
    let next = sent(&scenario().job(2.0, 5, 0));
    assert_eq!(next, [(5, 0, Why::WarmAndIdle)]);
}

#[test]
fn a_runner_that_may_not_take_the_oldest_job_takes_the_next_one_of_its_model() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    scenario.free(0.0, 1, &[1]);
    scenario.job(0.0, 8, 0);
    scenario.job(0.0, 9, 1);
    scenario.arrive(0.0, 0, 0, after_failed_attempt);
    scenario.arrive(0.0, 1, 0, |arrival| {
        after_failed_attempt(arrival);
        arrival.model = None;
    });
    scenario.job(0.1, 2, 0);
    assert_eq!(
        sent(&scenario.free(2.0, 0, &[0])),
        [(2, 0, Why::LateBinding)]
    );
    assert_eq!(sent(&scenario.free(2.0, 0, &[0])), []);
}

#[test]
fn a_job_does_not_wait_for_another_runner_that_cannot_load_its_model() {
    let mut scenario = Scenario::new();
    scenario.joined(0.0, 0, &[0]);
    scenario.joined(0.0, 1, &[1]);
    scenario.free(0.0, 0, &[0]);
    scenario.free(0.0, 1, &[1]);
    scenario.job(0.0, 9, 1);
    let placed = scenario.arrive(0.0, 0, 0, after_failed_attempt);
    assert_eq!(sent(&placed), [(0, 0, Why::WarmAndIdle)]);
}

#[test]
fn a_job_goes_to_the_same_runner_again_if_no_other_is_live() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    let placed = scenario.arrive(0.0, 0, 0, after_failed_attempt);
    assert_eq!(sent(&placed), [(0, 0, Why::WarmAndIdle)]);
}

#[test]
fn a_job_without_hint_goes_to_the_idle_runner_with_the_lowest_eviction_cost() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    // Model 0 has arrivals, model 1 has none.
    scenario.job(0.0, 0, 0);
    scenario.free(2.0, 0, &[0]);
    scenario.free(2.0, 1, &[1]);
    let no_hint = |arrival: &mut Arrival| arrival.model = None;
    let commands = scenario.arrive(2.0, 1, 0, no_hint);
    assert_eq!(sent(&commands), [(1, 1, Why::NoHintAndIdle)]);
    let commands = scenario.arrive(2.0, 2, 0, no_hint);
    assert_eq!(sent(&commands), [(2, 0, Why::NoHintAndIdle)]);
    assert_eq!(held(&scenario.arrive(2.0, 3, 0, no_hint)).len(), 1);
}

#[test]
fn a_job_past_its_own_bound_precedes_all_jobs_that_a_runner_is_warm_for() {
    for (bound_s, expected) in [
        (0.0, (9, 0, Why::BoundPassed)),
        (1.5, (9, 0, Why::BoundPassed)),
        (3.0, (1, 0, Why::LateBinding)),
    ] {
        let mut scenario = Scenario::new();
        scenario.free(0.0, 0, &[0]);
        for job in 0..4 {
            scenario.job(0.0, job, 0);
        }
        scenario.free_with_slots(0.0, 1, &[1], 1);
        scenario.job(0.0, 8, 1);
        let arrival = Arrival {
            job: Job(9),
            model: Some(Model(1)),
            priority: Priority::Normal,
            since_s: 0.1,
            max_warm_wait_s: bound_s,
            returned: false,
            avoid: Avoid::NONE,
        };
        let commands = scenario.policy.on(0.1, Event::Arrived(arrival), 0);
        assert_eq!(held(&commands).len(), 1);
        scenario.due(1.9);
        assert_eq!(sent(&scenario.free(2.0, 0, &[0])), [expected], "{bound_s}");
    }
}

#[test]
fn jobs_past_their_bounds_are_sent_in_order_of_these_and_after_jobs_overdue_before() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    scenario.job(0.0, 0, 0);
    scenario.arrive(100.0, 1, 1, |arrival| arrival.max_warm_wait_s = 3.0);
    scenario.arrive(100.1, 2, 2, |arrival| arrival.max_warm_wait_s = 1.0);
    // Overdue, at 102 s.
    scenario.arrive(100.2, 3, 3, |arrival| arrival.since_s = 42.0);
    // Without hint, before the last bound passed.
    scenario.arrive(102.5, 4, 4, |arrival| arrival.model = None);
    scenario.due(104.0);
    let order = [
        (2, Why::BoundPassed),
        // The runner has just swapped, and this job needs no further swap.
        (4, Why::NoHint),
        (3, Why::Overdue),
        (1, Why::BoundPassed),
    ];
    for (job, why) in order {
        assert_eq!(sent(&scenario.free(104.0, 0, &[0])), [(job, 0, why)]);
    }
}

#[test]
fn a_job_goes_only_to_a_runner_that_can_load_its_model() {
    let mut scenario = Scenario::new();
    scenario.joined(0.0, 0, &[0]);
    scenario.joined(0.0, 1, &[0, 1]);
    scenario.free(0.0, 0, &[]);
    assert_eq!(sent(&scenario.free(0.0, 1, &[])), []);
    assert_eq!(sent(&scenario.job(0.0, 0, 1)), [(0, 1, Why::NoHolder)]);
    // The runner that can load it is busy, and the idle one cannot, however long that takes.
    assert_eq!(sent(&scenario.job(0.0, 1, 1)), []);
    assert_eq!(
        sent(&scenario.arrive(0.0, 2, 1, |job| job.max_warm_wait_s = 0.0)),
        []
    );
    assert_eq!(
        sent(&scenario.arrive(0.0, 3, 1, |job| job.returned = true)),
        []
    );
    assert_eq!(sent(&scenario.due(500.0)), []);
    assert_eq!(sent(&scenario.free(500.0, 0, &[])), []);
    // Jobs that the idle runner can run precede them.
    assert_eq!(sent(&scenario.job(500.0, 4, 0)), [(4, 0, Why::NoHolder)]);
    let next = sent(&scenario.free(501.0, 1, &[1]));
    assert!(matches!(next[..], [(1..=3, 1, _)]), "{next:?}");
}

#[test]
fn a_runner_that_holds_a_model_which_it_no_longer_lists_gets_no_job_for_it() {
    let mut scenario = Scenario::new();
    scenario.joined(0.0, 0, &[0]);
    scenario.joined(0.0, 1, &[1]);
    scenario.free(0.0, 0, &[1]);
    scenario.free(0.0, 1, &[]);
    assert_eq!(sent(&scenario.job(0.0, 0, 1)), []);
    assert_eq!(sent(&scenario.free(1.0, 0, &[1])), []);
    assert_eq!(sent(&scenario.due(20.0)), [(0, 1, Why::PatienceOver)]);
}

#[test]
fn jobs_wait_for_a_model_whose_runners_are_gone_but_not_for_one_that_was_never_listed() {
    let mut scenario = Scenario::new();
    scenario.joined(0.0, 0, &[0]);
    scenario.joined(0.0, 1, &[1]);
    scenario.free(0.0, 0, &[0]);
    scenario.lost(1.0, 1);
    assert_eq!(sent(&scenario.job(2.0, 0, 1)), []);
    assert_eq!(sent(&scenario.job(3.0, 1, 7)), [(1, 0, Why::NoHolder)]);
    scenario.joined(4.0, 2, &[1]);
    assert_eq!(sent(&scenario.free(4.0, 2, &[])), [(0, 2, Why::NoHolder)]);
}

/// Runner 0 is idle with model 0 in RAM; runner 1 is idle and has room.
fn a_runner_with_a_model_in_ram_and_one_with_room() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.free_with(0.0, 0, memory(&[5], 1, &[0], 2));
    scenario.free_with_slots(0.0, 1, &[], 1);
    scenario
}

/// Reports a run of a model that was loaded from RAM in this time.
fn loaded_from_ram(scenario: &mut Scenario, now_s: f64, runner: u32, model: u32, load_s: f64) {
    let freed = Freed {
        runner: Runner(runner),
        memory: memory(&[model], 1, &[], 2),
        ran: Some(RunObservation {
            model: Model(model),
            run_s: 2.0,
            load_s: Some(load_s),
            from_ram: true,
        }),
    };
    scenario.policy.on(now_s, Event::Freed(freed), 0);
}

#[test]
fn a_job_goes_to_the_runner_that_has_its_model_in_ram_before_one_with_room() {
    let mut scenario = a_runner_with_a_model_in_ram_and_one_with_room();
    let commands = scenario.job(0.0, 0, 0);
    assert_eq!(sent(&commands), [(0, 0, Why::NoHolder)]);
    let [Command::Send(send)] = commands[..] else {
        unreachable!("not {commands:?}");
    };
    assert_eq!(send.tier, Tier::Ram);
    // The model that it evicted took the place of the loaded one.
    scenario.free_with(3.0, 0, memory(&[0], 1, &[5], 2));
    assert_eq!(sent(&scenario.job(3.0, 1, 5)), [(1, 0, Why::NoHolder)]);
}

#[test]
fn ram_that_is_slower_than_disk_by_measurement_is_no_reason() {
    let mut scenario = a_runner_with_a_model_in_ram_and_one_with_room();
    for _ in 0..50 {
        loaded_from_ram(&mut scenario, 0.0, 2, 0, 15.0);
    }
    scenario.lost(0.0, 2);
    assert_eq!(sent(&scenario.job(0.0, 0, 0)), [(0, 1, Why::NoHolder)]);
}

#[test]
fn a_job_does_not_wait_for_its_holder_if_an_idle_runner_has_its_model_in_ram() {
    // The holder is free in 2 s and further jobs wait; from RAM the load takes 1 s.
    let mut scenario = a_busy_holder_and_another_idle_runner();
    scenario.job(0.0, 1, 0);
    let commands = scenario.free_with(0.0, 2, memory(&[7], 1, &[0], 1));
    let (wait_s, bar_s) = (4.0, 0.6);
    assert_eq!(sent(&commands), [(1, 2, Why::Replicated { wait_s, bar_s })]);
}

#[test]
fn a_job_waits_a_bounded_time_for_a_busy_runner_that_has_its_model_in_ram() {
    let scenario = || {
        let mut scenario = Scenario::new();
        scenario.free_with(0.0, 0, memory(&[5], 1, &[0], 2));
        scenario.job(0.0, 0, 5);
        // The rest of its run and the load from RAM take less than a load from disk.
        let commands = scenario.job(0.0, 1, 0);
        assert_eq!(held(&commands), [(1, 20.0, 3.0)]);
        assert_eq!(sent(&scenario.free(0.0, 1, &[1])), []);
        scenario
    };
    let freed = memory(&[5], 1, &[0], 2);
    let commands = scenario().free_with(2.0, 0, freed);
    assert_eq!(sent(&commands), [(1, 0, Why::NoHolder)]);
    // The one with the model in RAM is lost.
    assert_eq!(sent(&scenario().lost(1.0, 0)), [(1, 1, Why::NoHolder)]);
    assert_eq!(sent(&scenario().due(20.0)), [(1, 1, Why::PatienceOver)]);
}

#[test]
fn a_refused_send_leaves_both_tiers_as_they_were() {
    let mut scenario = a_runner_with_a_model_in_ram_and_one_with_room();
    scenario.lost(0.0, 1);
    assert_eq!(sent(&scenario.job(0.0, 0, 0)).len(), 1);
    let runner = Runner(0);
    scenario.policy.on(0.0, Event::ClaimVoid { runner }, 0);
    let view = scenario.policy.fleet.get(runner);
    assert_eq!(
        (&view.cache[..], &view.ram[..]),
        (&[Model(5)][..], &[Model(0)][..])
    );
    let holders = |index: &holders::HolderIndex, model| index.count(Model(model));
    let fleet = &scenario.policy.fleet;
    assert_eq!([0, 5].map(|model| holders(&fleet.holders, model)), [0, 1]);
    assert_eq!(
        [0, 5].map(|model| holders(&fleet.ram_holders, model)),
        [1, 0]
    );
}

#[test]
fn held_work_is_the_runs_of_held_jobs_and_a_load_of_each_model_without_copy() {
    let mut scenario = Scenario::new();
    assert_eq!(scenario.policy.held_work().of_waiting(3), 3.0 * 2.0);
    scenario.free(0.0, 1, &[7]);
    // The first runs; three wait: two for the model on the runner, one for another.
    for (job, model) in [(1, 7), (2, 7), (3, 7), (4, 8)] {
        scenario.arrive(0.0, job, model, |_| {});
    }
    let work = scenario.policy.held_work();
    assert_eq!((work.jobs, work.total_s), (3, 3.0 * 2.0 + 10.0));
}
