//! Properties for all sequences of arrivals, losses, refusals and cancellations, on fleets with and
//! without catalogs and models in RAM; some jobs have an avoid list.

mod shares;
mod world;

use proptest::prelude::*;

use super::*;
use world::{Action, JobState, LISTED, LOAD_S, MODELS, Runners, World};

fn arrivals(low: impl Strategy<Value = bool>) -> impl Strategy<Value = Action> {
    let model = prop_oneof![9 => (0..MODELS).prop_map(Some), 1 => Just(None)];
    let patience_s = prop_oneof![3 => Just(f64::INFINITY), 1 => 0.0..30.0f64];
    let failed_on = proptest::sample::subsequence(vec![0, 1, 2, 3], 1..=4);
    let avoid = prop_oneof![4 => Just(Vec::new()), 1 => failed_on];
    let fields = (model, low, patience_s, 0.2..4.0f64, avoid);
    fields.prop_map(|(model, low, patience_s, run_s, avoid)| Action::Arrive {
        model,
        low,
        patience_s,
        run_s,
        avoid,
    })
}

/// Generates fleets in which every runner may load any model, or some have a catalog; all, some or
/// no runners keep evicted models in RAM.
fn fleets(runners: usize) -> impl Strategy<Value = Runners> {
    let models: Vec<Model> = (0..LISTED).map(Model).collect();
    let some = proptest::sample::subsequence(models, 1..=LISTED as usize);
    let mixed = proptest::collection::vec(proptest::option::of(some), runners);
    let catalogs = prop_oneof![1 => Just(vec![None; runners]), 2 => mixed];
    let some_slots = proptest::collection::vec(0usize..4, runners);
    let ram_slots = prop_oneof![1 => Just(vec![0; runners]), 2 => some_slots];
    (catalogs, ram_slots).prop_map(|(catalogs, ram_slots)| Runners {
        catalogs,
        ram_slots,
    })
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => arrivals(any::<bool>()),
        1 => (0usize..4).prop_map(Action::Lose),
        2 => (0usize..4).prop_map(Action::Join),
        1 => (0usize..40).prop_map(Action::Cancel),
        1 => Just(Action::RefuseNext),
    ]
}

fn scenario(
    action: impl Strategy<Value = Action>,
    gap_s: f64,
    max_actions: usize,
) -> impl Strategy<Value = Vec<(f64, Action)>> {
    proptest::collection::vec((0.0..gap_s, action), 1..max_actions)
}

proptest! {
    /// The world checks each command; at the end no served job is held.
    #[test]
    fn every_job_is_sent_while_a_runner_lives_and_no_busy_or_lost_runner_gets_one(
        actions in scenario(any_action(), 4.0, 80),
        overdue in prop_oneof![Just(6.0), 0.01..1.0f64],
        fleet in fleets(4),
    ) {
        // Every held job is scanned, as the check of lanes assumes.
        let constants = Constants { overdue, scan: 1000, ..Constants::default() };
        let mut world = World::new(constants, fleet);
        for (gap_s, action) in &actions {
            world.advance(world.now_s + gap_s);
            world.perform(action);
        }
        world.refuse_next = false;
        world.join(0);
        world.advance(world.now_s + 80.0 * 20.0);
        let mut unserved = 0;
        for (id, job) in &world.jobs {
            let mut live = (0..4).filter(|runner| world.runners[*runner].up);
            let is_served = live.any(|runner| world.is_able(runner, job.arrival.model));
            prop_assert!(job.gone || !is_served, "job {} was never sent", id);
            unserved += usize::from(!job.gone);
        }
        prop_assert_eq!(world.policy.held(), unserved);
    }

    /// A runner starts the first due normal job of those that it may serve within R + a load + a
    /// run, whatever hotter, younger, bounded, hint-less and low jobs there are.
    #[test]
    fn the_job_that_was_due_first_is_passed_over_for_a_bounded_time(
        actions in scenario(arrivals(any::<bool>()), 2.0, 150),
        overdue in prop_oneof![Just(6.0), 0.01..1.0f64],
        residency in prop_oneof![Just(10.0), 0.0..2.0f64],
        fleet in fleets(3),
    ) {
        let constants = Constants { overdue, residency, ..Constants::default() };
        let mut world = World::new(constants, fleet);
        for (gap_s, action) in &actions {
            world.advance(world.now_s + gap_s);
            world.perform(action);
        }
        world.advance(world.now_s + 150.0 * 14.0);
        let is_served = |job: &JobState| {
            (0..3).any(|runner| world.is_able(runner, job.arrival.model))
        };
        for (id, job) in &world.jobs {
            prop_assert!(job.gone == is_served(job), "job {}", id);
        }
        let most_s = (constants.residency + 1.0) * LOAD_S + 4.0;
        for passed in &world.passed {
            prop_assert!(passed.longest_s <= most_s, "{} s", passed.longest_s);
        }
    }
}

#[test]
fn a_held_job_goes_to_an_idle_runner_when_its_patience_ends() {
    let fleet = Runners {
        catalogs: vec![None; 2],
        ram_slots: vec![0; 2],
    };
    let mut world = World::new(Constants::default(), fleet);
    let arrive = |patience_s| Action::Arrive {
        model: Some(0),
        low: false,
        patience_s,
        run_s: 4.0,
        avoid: Vec::new(),
    };
    world.perform(&arrive(f64::INFINITY));
    // Loaded at 10 s, by estimate free at 12 s, really at 14 s: soon enough to wait.
    world.advance(11.0);
    world.perform(&arrive(1.0));
    assert_eq!(world.policy.held(), 1);
    world.advance(11.9);
    assert_eq!(world.policy.held(), 1);
    world.advance(12.1);
    assert_eq!(world.policy.held(), 0);
    assert!(world.runners.iter().all(|runner| runner.running.is_some()));
}
