//! How owners share the runners.

use super::*;

const ALICE: Owner = Owner(0);
const BOB: Owner = Owner(1);

fn terms(
    scenario: &mut Scenario,
    owner: Owner,
    weight: f64,
    max_running: Option<usize>,
) -> Vec<Command> {
    let terms = OwnerTerms {
        owner,
        weight,
        max_running,
    };
    scenario.policy.on(0.0, Event::Terms(terms), 0)
}

fn bobs(arrival: &mut Arrival) {
    arrival.owner = BOB;
}

/// Runs the jobs that runner 0, which has `cache`, is sent, 2 s each, from 2 s on. Returns them.
fn served(scenario: &mut Scenario, cache: &[u32], count: usize) -> Vec<u64> {
    let served = (1..=count).filter_map(|run| {
        let commands = scenario.free(2.0 * run as f64, 0, cache);
        sent(&commands).first().map(|(job, ..)| *job)
    });
    served.collect()
}

#[test]
fn a_job_does_not_wait_for_all_those_that_another_owner_queued_before() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    for job in 0..10 {
        scenario.job(0.0, job, 0);
    }
    scenario.arrive(1.0, 10, 0, bobs);
    scenario.arrive(1.0, 11, 0, bobs);
    assert_eq!(served(&mut scenario, &[0], 5), [10, 1, 11, 2, 3]);
}

#[test]
fn a_job_does_not_wait_for_all_others_even_if_runs_are_shorter_than_estimated() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    scenario.free(0.0, 1, &[0]);
    for job in 0..100 {
        scenario.job(0.0, job, 0);
    }
    scenario.arrive(0.0, 100, 0, bobs);
    // The estimate is 2 s.
    assert_eq!(sent(&scenario.free(0.05, 0, &[0]))[0].0, 100);
}

#[test]
fn owners_get_time_by_weight() {
    let mut scenario = Scenario::new();
    terms(&mut scenario, BOB, 3.0, None);
    scenario.free(0.0, 0, &[0]);
    for job in 0..40 {
        scenario.job(0.0, job, 0);
        scenario.arrive(0.0, 100 + job, 0, bobs);
    }
    let of_bob = served(&mut scenario, &[0], 20)
        .iter()
        .filter(|job| **job >= 100)
        .count();
    assert!((15..=16).contains(&of_bob), "{of_bob} of 20");
}

#[test]
fn neither_age_nor_a_bound_of_its_own_lets_an_owner_pass_others() {
    let mut scenario = Scenario::new();
    scenario.free(100.0, 0, &[0]);
    for job in 0..4 {
        scenario.arrive(100.0, job, 0, |arrival| {
            (arrival.since_s, arrival.max_warm_wait_s) = (0.0, 0.0);
        });
    }
    scenario.arrive(101.0, 10, 0, bobs);
    assert_eq!(sent(&scenario.free(102.0, 0, &[0]))[0].0, 10);
}

#[test]
fn time_that_an_owner_did_not_use_is_neither_saved_nor_owed() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    for job in 0..100 {
        scenario.job(0.0, job, 0);
    }
    served(&mut scenario, &[0], 50);
    for job in 100..110 {
        scenario.arrive(101.0, job, 0, bobs);
    }
    let next: Vec<u64> = (51..55)
        .map(|run| sent(&scenario.free(2.0 * f64::from(run), 0, &[0]))[0].0)
        .collect();
    assert_eq!(next, [100, 51, 101, 52]);
}

#[test]
fn an_owner_that_is_behind_gets_a_load_once_its_job_waits_too_long_for_a_warm_runner() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    for job in 0..100 {
        scenario.job(0.0, job, 0);
    }
    // Bob's model is loaded nowhere.
    scenario.arrive(1.0, 100, 1, bobs);
    let mut runs = (1..).map(|run| {
        let commands = scenario.free(2.0 * f64::from(run), 0, &[0]);
        sent(&commands)[0]
    });
    let (count, (.., why)) = runs
        .by_ref()
        .enumerate()
        .find(|(_, (job, ..))| *job == 100)
        .unwrap();
    // Once Alice is more than a load ahead, 10 s.
    assert_eq!(count, 5);
    assert!(
        matches!(why, Why::BehindShare { behind_s } if behind_s > 10.0),
        "{why:?}"
    );
}

#[test]
fn loads_for_the_sake_of_shares_take_a_bounded_part_of_the_time() {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    let mut now_s = 0.0;
    let (mut loads_s, mut model) = (0.0, 0);
    for job in 0..4000 {
        scenario.arrive(now_s, 2 * job, 0, |_| {});
        scenario.arrive(now_s, 2 * job + 1, 1, bobs);
        let commands = scenario.free(now_s, 0, &[model]);
        now_s += 2.0;
        let [(job, _, why)] = sent(&commands)[..] else {
            continue;
        };
        let needed = u32::from(job % 2 == 1);
        if needed != model {
            now_s += 10.0;
            model = needed;
            loads_s += if let Why::BehindShare { .. } = why {
                10.0
            } else {
                0.0
            };
        }
    }
    assert!(
        loads_s > 0.0 && loads_s / now_s < 0.03,
        "{loads_s} s of {now_s} s"
    );
}

/// Bob has a job each 3 s, which takes 2 s, and his model is the only one on the runner.
fn bob_keeps_a_runner_busy() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[1]);
    for job in 0..50 {
        let at_s = 3.0 * job as f64;
        assert_eq!(sent(&scenario.arrive(at_s, 100 + job, 1, bobs)).len(), 1);
        assert_eq!(sent(&scenario.free(at_s + 2.0, 0, &[1])), []);
    }
    scenario
}

#[test]
fn a_runner_stays_for_a_while_with_an_owner_whose_next_job_is_likely_to_come_soon() {
    let mut scenario = bob_keeps_a_runner_busy();
    let commands = scenario.job(149.5, 0, 0);
    assert!(matches!(
        commands[..],
        [Command::Hold(HoldCommand { is_kept: true, .. })]
    ));
    // One load time after the end of his last job.
    assert_eq!(scenario.policy.next_deadline_s(), Some(159.0));
    assert_eq!(sent(&scenario.due(158.9)), []);
    assert_eq!(sent(&scenario.due(159.0)), [(0, 0, Why::NoHolder)]);
}

#[test]
fn a_runner_stays_with_no_owner_beyond_its_share() {
    let mut scenario = bob_keeps_a_runner_busy();
    scenario.job(149.5, 0, 0);
    let next = (50..100).find_map(|job| {
        let at_s = 3.0 * job as f64;
        scenario.arrive(at_s, 100 + job, 1, bobs);
        let next = sent(&scenario.free(at_s + 2.0, 0, &[1]));
        (!next.is_empty()).then_some((job, next))
    });
    // He is charged 3 s for each job, with the time in which the runner waits; a load and another
    // one back are 20 s.
    assert_eq!(next, Some((56, vec![(0, 0, Why::NoHolder)])));
}

#[test]
fn an_owner_has_at_most_as_many_jobs_on_runners_as_it_may_have() {
    let mut scenario = Scenario::new();
    terms(&mut scenario, ALICE, 1.0, Some(1));
    scenario.free(0.0, 0, &[0]);
    scenario.free(0.0, 1, &[0]);
    let (_, runner, _) = sent(&scenario.job(0.0, 0, 0))[0];
    let commands = scenario.job(0.0, 1, 0);
    assert!(matches!(
        commands[..],
        [Command::Hold(HoldCommand {
            at_limit: true,
            is_kept: false,
            ..
        })]
    ));
    // Its patience and its bound change nothing.
    scenario.arrive(0.0, 2, 0, |arrival| arrival.max_warm_wait_s = 0.0);
    assert_eq!(sent(&scenario.due(100.0)), []);
    assert_eq!(sent(&scenario.arrive(100.0, 10, 0, bobs)).len(), 1);
    // A runner that comes free, or another idle one, takes the next job.
    let next = sent(&scenario.free(101.0, runner, &[0]));
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].0, 2);
}

#[test]
fn a_higher_limit_releases_jobs_at_once() {
    let mut scenario = Scenario::new();
    terms(&mut scenario, ALICE, 1.0, Some(1));
    for runner in 0..3 {
        scenario.free(0.0, runner, &[0]);
    }
    for job in 0..4 {
        scenario.job(0.0, job, 0);
    }
    assert_eq!(scenario.policy.held(), 3);
    let commands = terms(&mut scenario, ALICE, 1.0, Some(3));
    assert_eq!(sent(&commands).len(), 2);
    assert_eq!(scenario.policy.held(), 1);
}

#[test]
fn a_refused_claim_is_not_charged() {
    let mut scenario = Scenario::new();
    terms(&mut scenario, ALICE, 1.0, Some(1));
    scenario.free(0.0, 0, &[0]);
    scenario.free(0.0, 1, &[0]);
    let (_, runner, _) = sent(&scenario.job(0.0, 0, 0))[0];
    let refused = Event::Refused {
        runner: Runner(runner),
    };
    let commands = scenario.policy.on(0.0, refused, 0);
    assert_eq!(sent(&commands), [(0, 1 - runner, Why::WarmAndIdle)]);
}

#[test]
fn jobs_beyond_the_limit_of_their_owner_are_no_work_for_further_runners() {
    let mut scenario = Scenario::new();
    terms(&mut scenario, ALICE, 1.0, Some(2));
    scenario.free(0.0, 0, &[0]);
    for job in 0..10 {
        scenario.job(0.0, job, 0);
    }
    // One of them runs, so one of nine may, for 2 s.
    let work = scenario.policy.held_work();
    assert_eq!((work.jobs, work.total_s.round()), (9, 2.0));
    scenario.arrive(0.0, 10, 0, bobs);
    assert_eq!(scenario.policy.held_work().total_s.round(), 4.0);
}
