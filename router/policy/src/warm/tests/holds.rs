//! Which jobs wait for a runner with their model, and which cause another copy.

use super::*;

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
fn jobs_whose_last_holder_is_lost_go_to_an_idle_runner() {
    let mut scenario = a_busy_holder_and_another_idle_runner();
    scenario.job(0.0, 1, 0);
    let commands = scenario.lost(1.0, 0);
    assert_eq!(sent(&commands), [(1, 1, Why::NoHolder)]);
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
