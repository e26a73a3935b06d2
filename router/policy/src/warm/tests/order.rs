//! The job that a free runner takes.

use super::*;

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
            owner: Owner::default(),
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
