//! Models in RAM.

use super::*;

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
