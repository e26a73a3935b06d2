//! Tables of all runs, and all details of bad jobs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use warmq_types::table::Table;

use super::accountant::{Bad, Finding};
use super::plan::Kind;
use super::recovery::Recovery;
use super::run::Outcome;

/// One row per run.
pub fn runs(outcomes: &[Outcome]) -> Table {
    let findings = Finding::ALL.map(|finding| finding.to_string());
    let header = ["seed", "queues", "accepted", "ended as"].map(str::to_owned);
    let last = ["settled s", "took s"].map(str::to_owned);
    let mut table = Table::new(header.into_iter().chain(findings).chain(last))
        .right([0, 2].into_iter().chain(4..12));
    for outcome in outcomes {
        let verdict = &outcome.verdict;
        let ends = verdict.ends.iter();
        let ends: Vec<String> = ends.map(|(end, count)| format!("{count} {end}")).collect();
        let mut cells = vec![
            outcome.plan.seed.to_string(),
            outcome.plan.queue_type.to_string(),
            verdict.accepted.to_string(),
            ends.join(", "),
        ];
        cells.extend(Finding::ALL.map(|finding| verdict.count(finding).to_string()));
        cells.push(format!("{:.0}", outcome.settled.as_secs_f64()));
        cells.push(format!("{:.0}", outcome.took.as_secs_f64()));
        table.row(cells);
    }
    table
}

/// Jobs by number of attempts, over all runs.
pub fn executions(outcomes: &[Outcome]) -> Table {
    let mut jobs: BTreeMap<u64, usize> = BTreeMap::new();
    for outcome in outcomes {
        for (&times, &count) in &outcome.verdict.executions {
            *jobs.entry(times).or_default() += count;
        }
    }
    let mut table = Table::new(["attempts", "jobs"]).right([0, 1]);
    for (times, count) in jobs {
        table.row([times.to_string(), count.to_string()]);
    }
    table
}

/// Recovery times by kind of fault, over all runs.
pub fn recoveries(outcomes: &[Outcome]) -> Table {
    let mut kinds: BTreeMap<Kind, Vec<Recovery>> = BTreeMap::new();
    for recovery in outcomes.iter().flat_map(|outcome| &outcome.recoveries) {
        kinds.entry(recovery.kind).or_default().push(*recovery);
    }
    let header = ["fault", "times", "next job: median s", "worst s"];
    let last = ["fresh job: median s", "worst s"];
    let mut table = Table::new(header.into_iter().chain(last)).right(1..6);
    for (kind, recoveries) in kinds {
        let next = spread(recoveries.iter().filter_map(|recovery| recovery.next));
        let fresh = spread(recoveries.iter().filter_map(|recovery| recovery.fresh));
        let first = [kind.to_string(), recoveries.len().to_string()];
        table.row(first.into_iter().chain(next).chain(fresh));
    }
    table
}

/// Returns median and maximum, s.
fn spread(times: impl Iterator<Item = Duration>) -> [String; 2] {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    let cell = |time: Option<&Duration>| {
        time.map_or_else(
            || "-".to_owned(),
            |time| format!("{:.2}", time.as_secs_f64()),
        )
    };
    [cell(times.get(times.len() / 2)), cell(times.last())]
}

/// Returns all known facts about a bad job.
pub fn details(bad: &Bad) -> String {
    let account = &bad.account;
    let ids: Vec<String> = account.ids.iter().map(ToString::to_string).collect();
    let mut details = format!("{}: job {}: {}\n", bad.finding, ids.join(", "), bad.why);
    // Writing to a string cannot fail.
    let _ = writeln!(details, "  submitted: {:?}", account.submission);
    for (source, end) in &account.reports {
        let _ = writeln!(details, "  {source:?} reported: {end:?}");
    }
    let record = account.record.as_ref();
    let record = record.map(|record| serde_json::to_string(record).unwrap_or_default());
    let _ = writeln!(details, "  record: {}", record.as_deref().unwrap_or("none"));
    details
}
