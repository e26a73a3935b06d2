//! fal's documented rule: an idle runner that reports the hint gets the job; otherwise an idle
//! runner with an empty list, which matches any request; otherwise the job goes to the shared queue
//! at once. Matching is exact. The job's own random bits choose among equals, which spreads the
//! load and makes the choice reproducible.

use warmq_types::hint::Candidates;
use warmq_types::ids::{JobId, RunnerId};
use warmq_types::job::{Decision, JobSpec, Target};

/// Decides one job, given the idle runners that it could use. Never holds it. A job that failed on
/// a runner goes to another idle one that can load its model, otherwise to the shared queue, where
/// the same runner may take it again. `refused_claims`: number of refused claims so far.
pub fn decide(job: &JobSpec, candidates: Candidates, refused_claims: u32) -> Decision {
    let another_runner = || {
        let runner = pick(job.id, &candidates.others)?;
        let reason = format!("an attempt failed on another runner, and {runner} was idle");
        Some((Target::Runner { runner }, false, reason))
    };
    let (target, warm, reason) = match &job.hint {
        None => another_runner().unwrap_or((
            Target::Shared,
            false,
            "it carries no hint, so every runner is equal to it".to_owned(),
        )),
        Some(hint) => {
            if let Some(runner) = pick(job.id, &candidates.warm) {
                let reason = format!("{runner} was idle and reported '{hint}'");
                (Target::Runner { runner }, true, reason)
            } else if let Some(runner) = pick(job.id, &candidates.blank) {
                let reason = format!(
                    "no idle runner reported '{hint}'; {runner} was idle and reported nothing \
                     yet, so it takes anything"
                );
                (Target::Runner { runner }, false, reason)
            } else if let Some(another_runner) = another_runner() {
                another_runner
            } else {
                let busy = match candidates.idle {
                    0 => "no runner was idle".to_owned(),
                    1 => format!("the one idle runner did not report '{hint}'"),
                    idle => format!("none of {idle} idle runners reported '{hint}'"),
                };
                (Target::Shared, false, busy)
            }
        }
    };
    Decision {
        policy: "fal".to_owned(),
        target,
        warm,
        tier: None,
        warm_candidates: candidates.warm,
        blank_candidates: candidates.blank,
        idle_runners: candidates.idle,
        holders: None,
        predicted_wait_ms: None,
        held_ms: 0,
        refused_claims,
        reason,
    }
}

fn pick(job: JobId, runners: &[RunnerId]) -> Option<RunnerId> {
    let index = job.coin().checked_rem(runners.len() as u64)?;
    runners.get(usize::try_from(index).ok()?).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use warmq_types::hint::Hint;
    use warmq_types::ids::AppId;

    fn job(hint: Option<&str>) -> JobSpec {
        JobSpec {
            hint: hint.map(|hint| Hint::parse(hint).unwrap()),
            ..JobSpec::new(AppId::parse("a/b").unwrap(), serde_json::json!({}))
        }
    }

    fn runners(prefix: &str, count: usize) -> Vec<RunnerId> {
        (0..count)
            .map(|n| RunnerId::parse(&format!("{prefix}{n}")).unwrap())
            .collect()
    }

    proptest! {
        #[test]
        fn warm_runners_precede_blank_ones_and_the_shared_queue(
            warm in 0usize..4,
            blank in 0usize..4,
            others in 0u64..4,
        ) {
            let candidates = Candidates {
                warm: runners("warm", warm),
                blank: runners("blank", blank),
                others: Vec::new(),
                idle: warm as u64 + blank as u64 + others,
            };
            let decision = decide(&job(Some("shapes")), candidates.clone(), 0);
            match &decision.target {
                Target::Runner { runner } if warm > 0 => {
                    prop_assert!(decision.warm && candidates.warm.contains(runner));
                }
                Target::Runner { runner } => {
                    prop_assert!(!decision.warm && candidates.blank.contains(runner));
                }
                Target::Shared => prop_assert!(warm == 0 && blank == 0),
            }
        }
    }

    #[test]
    fn a_job_without_hint_goes_to_the_shared_queue() {
        let candidates = Candidates {
            warm: Vec::new(),
            blank: runners("blank", 2),
            others: Vec::new(),
            idle: 2,
        };
        assert_eq!(decide(&job(None), candidates, 0).target, Target::Shared);
    }

    #[test]
    fn a_job_that_failed_on_a_runner_goes_to_any_other_idle_one() {
        let failed = runners("r", 1);
        for hint in [None, Some("m")] {
            // Idle: the runner on which it failed, warm, and perhaps one with another model.
            let candidates = |others| {
                let candidates = Candidates {
                    warm: failed.clone(),
                    idle: 2,
                    ..Candidates::default()
                };
                candidates.without(&failed, others)
            };
            let decision = decide(&job(hint), candidates(runners("other", 1)), 0);
            let runner = runners("other", 1).remove(0);
            assert_eq!(decision.target, Target::Runner { runner });
            assert!(!decision.warm);
            let alone = decide(&job(hint), candidates(Vec::new()), 0);
            let expected = match hint {
                Some(_) => Target::Runner {
                    runner: failed[0].clone(),
                },
                None => Target::Shared,
            };
            assert_eq!(alone.target, expected);
        }
    }

    #[test]
    fn equal_runners_share_the_load() {
        let mut counts = [0u32; 4];
        for _ in 0..400 {
            let candidates = Candidates {
                warm: runners("r", 4),
                blank: Vec::new(),
                others: Vec::new(),
                idle: 4,
            };
            let Target::Runner { runner } = decide(&job(Some("m")), candidates, 0).target else {
                unreachable!("a warm runner was idle");
            };
            counts[usize::from(runner.as_str().as_bytes()[1] - b'0')] += 1;
        }
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    }
}
