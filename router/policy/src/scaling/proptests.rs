//! Properties for all sequences of workloads.

use proptest::prelude::*;
use warmq_types::hint::Hint;

use super::*;

fn rules() -> impl Strategy<Value = ScalingRule> {
    let keep_alive_s = prop_oneof![Just(0.0), 1.0..100.0f64];
    let fields = (0usize..5, 1usize..10, keep_alive_s, 1.0..60.0f64);
    fields.prop_map(|(min, max, keep_alive_s, target_s)| ScalingRule {
        min: min.min(max),
        max,
        keep_alive_s,
        target_s,
    })
}

fn workloads() -> impl Strategy<Value = Workload> {
    let fields = (0usize..40, 0.0..5.0f64, 0usize..12, 0usize..12, 0usize..3);
    fields.prop_map(|(waiting_jobs, each_s, runners, idle, faulty)| Workload {
        faulty,
        waiting_jobs,
        pending_s: waiting_jobs as f64 * each_s,
        runners,
        idle: idle.min(runners),
    })
}

/// Generates observations: pauses in s, and workloads.
fn observations() -> impl Strategy<Value = Vec<(f64, Workload)>> {
    proptest::collection::vec((0.0..20.0f64, workloads()), 1..60)
}

proptest! {
    #[test]
    fn the_wanted_number_is_within_its_bounds_and_suffices(rule in rules(), seen in observations()) {
        let (mut scaler, mut now_s) = (Scaler::new(rule), 0.0);
        for (pause_s, workload) in seen {
            now_s += pause_s;
            let wanted = scaler.wanted(now_s, workload);
            prop_assert!((rule.min..=rule.max).contains(&wanted));
            let busy = workload.runners - workload.idle;
            prop_assert!(wanted >= busy.min(rule.max), "busy runners are needed");
            prop_assert!(wanted >= usize::from(workload.waiting_jobs > 0));
            prop_assert!(scaler.needs.len() <= rule.max - rule.min + 1, "memory is bounded");
        }
    }

    #[test]
    fn it_falls_only_to_what_sufficed_for_all_of_keep_alive(
        rule in rules(),
        seen in observations(),
    ) {
        let (mut scaler, mut now_s) = (Scaler::new(rule), 0.0);
        let mut wanted_before = 0;
        // The startup time is measured by the scaler, so each need is taken from it.
        let mut needs: Vec<(f64, usize)> = Vec::new();
        for (pause_s, workload) in seen {
            now_s += pause_s;
            let wanted = scaler.wanted(now_s, workload);
            needs.push(scaler.needs[scaler.needs.len() - 1]);
            let recent = needs.iter().filter(|(at_s, _)| at_s + rule.keep_alive_s > now_s);
            let greatest = recent.map(|(_, need)| *need).max();
            let expected = greatest.unwrap_or(0).max(needs[needs.len() - 1].1);
            prop_assert_eq!(wanted, expected);
            if wanted < wanted_before {
                let is_unneeded = needs.iter().all(|(at_s, need)| {
                    *need <= wanted || at_s + rule.keep_alive_s <= now_s
                });
                prop_assert!(is_unneeded);
            }
            wanted_before = wanted;
        }
    }

    #[test]
    fn more_work_needs_no_fewer_runners(
        rule in rules(),
        startup_s in 0.0..120.0f64,
        workload in workloads(),
        more in (0usize..20, 0.0..200.0f64),
    ) {
        let with_more = Workload {
            waiting_jobs: workload.waiting_jobs + more.0,
            pending_s: workload.pending_s + more.1,
            ..workload
        };
        prop_assert!(need(&rule, startup_s, with_more) >= need(&rule, startup_s, workload));
    }

    #[test]
    fn the_least_useful_runners_are_distinct_and_idle_before_busy(
        runners in proptest::collection::vec((0usize..3, 0u8..6, 0u64..9), 0..12),
        count in 0usize..15,
    ) {
        let models: Vec<Vec<Hint>> = runners
            .iter()
            .map(|(_, model, _)| Hint::parse(&format!("m{model}")).into_iter().collect())
            .collect();
        let candidates: Vec<Candidate<'_>> = runners
            .iter()
            .zip(&models)
            .map(|((activity, _, since_ms), models)| Candidate {
                activity: [Activity::Faulty, Activity::Idle, Activity::Busy][*activity],
                models,
                since_ms: *since_ms,
            })
            .collect();
        let chosen = least_useful(&candidates, count, |hint| hint.as_str().len() as f64);
        prop_assert_eq!(chosen.len(), count.min(candidates.len()));
        let mut distinct = chosen.clone();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), chosen.len());
        let activities: Vec<Activity> = chosen.iter().map(|at| candidates[*at].activity).collect();
        prop_assert!(activities.is_sorted());
    }
}
