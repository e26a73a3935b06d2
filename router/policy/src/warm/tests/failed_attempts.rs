//! The runners that a job avoids, since an attempt failed there.

use super::*;

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
