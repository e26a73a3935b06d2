//! Reports of a run: the table, the totals, and the reasons of decisions.

use std::collections::BTreeMap;

use warmq_cli::time;
use warmq_types::job::JobRecord;
use warmq_types::table::Table;

use crate::decision_kind::DecisionKind;
use crate::snapshot::{Snapshot, Submitted, records};

/// Formats one line per job, in order of submission.
pub fn table(jobs: &[Submitted]) -> Table {
    let header = [
        "#", "VIA", "HINT", "HELD ms", "RAN ON", "REASON", "MODEL", "LOAD ms", "RUN ms",
    ];
    let mut table = Table::new(header).right([0, 3, 7, 8]);
    for (job, record) in records(jobs) {
        let timings = record.timings.unwrap_or_default();
        let why = why(record);
        table.row([
            job.planned.number.to_string(),
            job.planned.via.as_str().to_owned(),
            job.planned.model.to_owned(),
            held_ms(record).to_string(),
            runner(job).to_owned(),
            why.map_or("?", DecisionKind::as_str).to_owned(),
            temperature(timings.warm).to_owned(),
            timings.load_ms.to_string(),
            timings.run_ms.to_string(),
        ]);
    }
    table
}

/// Formats the totals, one or two sentences per line.
pub fn totals(end: &Snapshot) -> Vec<String> {
    let jobs = &end.jobs;
    let cold = jobs.iter().filter(|job| job.warm() == Some(false)).count();
    let held: Vec<&JobRecord> = records(jobs)
        .map(|(_, record)| record)
        .filter(|record| held_ms(record) > 0)
        .collect();
    let ran_warm = held
        .iter()
        .filter(|record| record.timings.is_some_and(|timings| timings.warm))
        .count();
    let passed_over = held
        .iter()
        .filter(|record| {
            record
                .hold
                .as_ref()
                .is_some_and(|hold| hold.idle_runners > 0)
        })
        .count();
    let longest_ms = held.iter().map(|record| held_ms(record)).max().unwrap_or(0);
    let mut per_runner = BTreeMap::<&str, usize>::new();
    for job in jobs {
        *per_runner.entry(runner(job)).or_default() += 1;
    }
    let per_runner: Vec<String> = per_runner
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    vec![
        format!(
            "{} jobs: {} found their model loaded, {cold} had to load it.",
            jobs.len(),
            jobs.len() - cold
        ),
        format!(
            "{} jobs were held, {} at most: {} while no runner was idle, {passed_over} although a runner without their \
             model was. {ran_warm} of them then ran warm.",
            held.len(),
            time::duration(longest_ms),
            held.len() - passed_over
        ),
        format!(
            "Jobs per runner: {}. The most models that one runner held:  {}.",
            per_runner.join(", "),
            end.most_held
        ),
    ]
}

/// Returns the reason of one decision of each kind.
pub fn samples(jobs: &[Submitted]) -> Vec<String> {
    let mut first = BTreeMap::new();
    for (job, record) in records(jobs) {
        if let (Some(why), Some(reason)) = (why(record), reason(job, record)) {
            first.entry(why).or_insert(reason);
        }
    }
    first.into_values().collect()
}

/// Returns the reasons of all decisions.
pub fn reasons(jobs: &[Submitted]) -> Vec<String> {
    records(jobs)
        .filter_map(|(job, record)| reason(job, record))
        .collect()
}

/// Returns `warm` or `cold`.
pub fn temperature(warm: bool) -> &'static str {
    if warm { "warm" } else { "cold" }
}

/// Returns how long a job was held, ms.
pub fn held_ms(record: &JobRecord) -> u64 {
    let decision = record.decision.as_ref();
    decision.map_or(0, |decision| decision.held_ms)
}

fn why(record: &JobRecord) -> Option<DecisionKind> {
    record.decision.as_ref().map(DecisionKind::of)
}

fn runner(job: &Submitted) -> &str {
    job.runner().map_or("?", |runner| runner.as_str())
}

fn reason(job: &Submitted, record: &JobRecord) -> Option<String> {
    let sent = &record.decision.as_ref()?.reason;
    let (number, model) = (job.planned.number, job.planned.model);
    let held = match (&record.hold, held_ms(record)) {
        (Some(hold), held_ms) if held_ms > 0 => {
            format!("held {} ({}), then: ", time::duration(held_ms), hold.reason)
        }
        _ => String::new(),
    };
    Some(format!("#{number:02} ({model}): {held}{sent}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan;
    use serde_json::{Value, json};
    use warmq_types::ids::JobId;

    /// Returns the demo's jobs with made-up outcomes: every third one cold, every fourth from the
    /// shared queue, every fourth held.
    pub(crate) fn jobs() -> Vec<Submitted> {
        let job = |planned: plan::PlannedJob| {
            let index = planned.number - 1;
            let warm = !index.is_multiple_of(3);
            let is_held = index % 4 == 1;
            let target: Value = match index % 4 {
                3 => json!({"kind": "shared"}),
                _ => json!({"kind": "runner", "runner": "runner-a"}),
            };
            let hold = json!({
                "since_ms": 1001, "until_ms": 1400, "holders": 1, "idle_runners": index % 3, "reason": "busy"
            });
            let id = JobId::generate();
            let view = json!({
                "id": id, "app": plan::APP, "hint": planned.model, "priority": "normal", "input": {},
                "created_ms": 1000, "state": "succeeded", "attempt": 1, "fence": 1,
                "dispatched_ms": 1005, "started_ms": 1010, "finished_ms": 1300,
                "runner": format!("runner-{}", ["a", "b", "c"][index % 3]),
                "hold": is_held.then_some(hold),
                "decision": {
                    "policy": "warm", "target": target, "warm": warm && index % 4 != 3,
                    "warm_candidates": [], "blank_candidates": [], "idle_runners": 1, "holders": index % 2,
                    "held_ms": if is_held { 40 + index } else { 0 }, "refused_claims": 0, "reason": "because"
                },
                "timings": {"warm": warm, "load_ms": if warm { 0 } else { 150 }, "run_ms": 230},
                "output": {}
            });
            Submitted {
                planned,
                id,
                view: Some(serde_json::from_value(view).unwrap()),
            }
        };
        plan::jobs().into_iter().map(job).collect()
    }

    #[test]
    fn the_totals_add_up() {
        let end = Snapshot {
            jobs: jobs(),
            runners: Vec::new(),
            most_held: 2,
        };
        let totals = totals(&end);
        assert_eq!(
            totals[0],
            "24 jobs: 16 found their model loaded, 8 had to load it."
        );
        assert_eq!(
            totals[1],
            "6 jobs were held, 61 ms at most: 2 while no runner was idle, 4 although a runner without their model was. 4 of \
             them then ran warm."
        );
        assert_eq!(
            totals[2],
            "Jobs per runner: runner-a 8, runner-b 8, runner-c 8. The most models that one runner held:  2."
        );
    }

    #[test]
    fn one_sample_of_each_kind_is_shown_with_its_hold() {
        let samples = samples(&jobs());
        assert_eq!(samples.len(), 5, "{samples:?}");
        assert_eq!(samples[0], "#03 (landscapes): because");
        assert_eq!(samples[1], "#02 (digits): held 41 ms (busy), then: because");
    }

    #[test]
    fn the_table_has_a_line_per_job() {
        assert_eq!(table(&jobs()).to_string().lines().count(), 25);
    }
}
