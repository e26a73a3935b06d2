//! After the end: the table, the totals, and what the dispatcher said of some jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use warmq_cli::table::Table;
use warmq_cli::time;
use warmq_common::job::{Decision, JobRecord, Target};

use crate::watch::{Snapshot, Submitted};

/// One line per job, in the order of submission.
pub fn table(jobs: &[Submitted]) -> Table {
    let header = [
        "#", "JOB", "VIA", "HINT", "SENT TO", "RAN ON", "MODEL", "LOAD ms", "QUEUE ms", "RUN ms",
    ];
    let mut table = Table::new(header).right([0, 7, 8, 9]);
    for (job, record) in records(jobs) {
        let timings = record.timings.unwrap_or_default();
        let started = record.started_ms.unwrap_or(record.spec.created_ms);
        let queue_ms = started.saturating_sub(record.spec.created_ms);
        table.row([
            job.order.number.to_string(),
            short_id(job),
            job.order.via.as_str().to_owned(),
            job.order.model.to_owned(),
            record.decision.as_ref().map_or("?", sent_to).to_owned(),
            job.runner()
                .map_or("?", |runner| runner.as_str())
                .to_owned(),
            temperature(timings.warm).to_owned(),
            timings.load_ms.to_string(),
            queue_ms.to_string(),
            timings.run_ms.to_string(),
        ]);
    }
    table
}

/// The sums, one sentence per line.
pub fn totals(end: &Snapshot, wall: Duration) -> Vec<String> {
    let jobs = &end.jobs;
    let mut loads_ms = 0;
    let mut runs_ms = 0;
    let mut cold = 0usize;
    let mut per_runner = BTreeMap::<String, usize>::new();
    let mut per_target = BTreeMap::<&str, usize>::new();
    let mut luck = 0usize;
    for (job, record) in records(jobs) {
        let timings = record.timings.unwrap_or_default();
        loads_ms += timings.load_ms;
        runs_ms += timings.run_ms;
        cold += usize::from(!timings.warm);
        let runner = job
            .runner()
            .map_or_else(|| "?".to_owned(), ToString::to_string);
        *per_runner.entry(runner).or_default() += 1;
        let sent = record.decision.as_ref().map_or("?", sent_to);
        *per_target.entry(sent).or_default() += 1;
        luck += usize::from(sent != "warm runner" && timings.warm);
    }
    let list = |counts: Vec<(String, usize)>| {
        let parts: Vec<String> = counts
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        parts.join(", ")
    };
    let sent = per_target
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
    vec![
        format!(
            "{} jobs: {} found their model loaded, {cold} had to load it.",
            jobs.len(),
            jobs.len() - cold
        ),
        format!(
            "Sent by the dispatcher to: {}. Of the jobs not sent to a warm runner, {luck} found their model loaded by chance.",
            list(sent)
        ),
        format!(
            "Loading took {} in all, running {}.",
            time::duration(loads_ms),
            time::duration(runs_ms)
        ),
        format!(
            "Jobs per runner: {}. The most models that one held at a time: {}.",
            list(per_runner.into_iter().collect()),
            end.most_held
        ),
        format!(
            "Wall time of the jobs: {}.",
            time::duration(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX))
        ),
    ]
}

/// What the dispatcher said of one job of each kind that occurred: warm, blank, shared.
pub fn samples(jobs: &[Submitted]) -> Vec<String> {
    let kinds = ["warm runner", "blank runner", "shared queue"];
    let first = |kind: &&str| {
        records(jobs).find_map(|(job, record)| {
            let decision = record.decision.as_ref()?;
            (sent_to(decision) == *kind).then(|| reason(job, decision))
        })
    };
    kinds.iter().filter_map(first).collect()
}

/// What the dispatcher said of every job.
pub fn reasons(jobs: &[Submitted]) -> Vec<String> {
    let reasons =
        records(jobs).filter_map(|(job, record)| Some(reason(job, record.decision.as_ref()?)));
    reasons.collect()
}

/// `warm` or `cold`.
pub fn temperature(warm: bool) -> &'static str {
    if warm { "warm" } else { "cold" }
}

fn reason(job: &Submitted, decision: &Decision) -> String {
    let (number, model) = (job.order.number, job.order.model);
    format!(
        "#{number:02} ({model}), {}: {}",
        sent_to(decision),
        decision.reason
    )
}

/// The three things that the policy does with a job.
fn sent_to(decision: &Decision) -> &'static str {
    match (&decision.target, decision.warm) {
        (Target::Runner { .. }, true) => "warm runner",
        (Target::Runner { .. }, false) => "blank runner",
        (Target::Shared, _) => "shared queue",
    }
}

/// The end of the id: the begin of a UUIDv7 is the time, nearly the same for all.
fn short_id(job: &Submitted) -> String {
    let id = job.id.to_string();
    format!("..{}", &id[id.len() - 8..])
}

fn records(jobs: &[Submitted]) -> impl Iterator<Item = (&Submitted, &JobRecord)> {
    jobs.iter()
        .filter_map(|job| Some((job, &job.view.as_ref()?.record)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan;
    use serde_json::{Value, json};
    use warmq_common::ids::JobId;

    /// The demo's jobs with made-up outcomes: every third cold, every fourth by the shared queue.
    pub(crate) fn jobs() -> Vec<Submitted> {
        let job = |order: plan::Order| {
            let index = order.number - 1;
            let warm = !index.is_multiple_of(3);
            let target: Value = match index % 4 {
                3 => json!({"kind": "shared"}),
                _ => json!({"kind": "runner", "runner": "runner-a"}),
            };
            let id = JobId::generate();
            let view = json!({
                "id": id, "app": plan::APP, "hint": order.model, "priority": "normal", "input": {},
                "created_ms": 1000, "state": "succeeded", "attempt": 1, "fence": 1,
                "dispatched_ms": 1005, "started_ms": 1010, "finished_ms": 1300,
                "runner": format!("runner-{}", ["a", "b", "c"][index % 3]),
                "decision": {
                    "policy": "fal", "target": target, "warm": warm && index % 4 != 3,
                    "warm_candidates": [], "blank_candidates": [], "idle_runners": 1,
                    "refused_claims": 0, "reason": "because"
                },
                "timings": {"warm": warm, "load_ms": if warm { 0 } else { 150 }, "run_ms": 230},
                "output": {}
            });
            Submitted {
                order,
                id,
                view: Some(serde_json::from_value(view).unwrap()),
            }
        };
        plan::orders().into_iter().map(job).collect()
    }

    #[test]
    fn the_totals_add_up() {
        let end = Snapshot {
            jobs: jobs(),
            runners: Vec::new(),
            most_held: 2,
        };
        let totals = totals(&end, Duration::from_millis(7_500));
        assert_eq!(
            totals[0],
            "24 jobs: 16 found their model loaded, 8 had to load it."
        );
        assert!(totals[1].contains("shared queue 6"), "{}", totals[1]);
        assert!(totals[2].starts_with("Loading took 1.2 s"), "{}", totals[2]);
        assert!(
            totals[3].starts_with("Jobs per runner: runner-a 8, runner-b 8, runner-c 8. "),
            "{}",
            totals[3]
        );
        assert_eq!(totals[4], "Wall time of the jobs: 7.5 s.");
    }

    #[test]
    fn one_sample_of_each_kind_is_shown() {
        let samples = samples(&jobs());
        assert_eq!(samples.len(), 3);
        assert!(samples[0].contains("warm runner: because"), "{samples:?}");
        assert!(samples[2].contains("shared queue"), "{samples:?}");
    }

    #[test]
    fn the_table_has_a_line_per_job() {
        assert_eq!(table(&jobs()).to_string().lines().count(), 25);
    }
}
