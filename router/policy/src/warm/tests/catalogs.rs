//! The runners that can load a model.

use super::*;

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
