//! What came of all runs, as tables; and of each bad job, everything.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use warmq_cli::table::Table;

use super::accountant::{Bad, Finding};
use super::plan::Kind;
use super::run::Outcome;

/// One row per run.
pub fn runs(outcomes: &[Outcome]) -> Table {
    let findings = Finding::ALL.map(|finding| finding.to_string());
    let header = ["seed", "queues", "accepted", "ended as"].map(str::to_owned);
    let last = ["not told", "settled s", "took s"].map(str::to_owned);
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
        cells.push((verdict.unannounced + verdict.unanswered).to_string());
        cells.push(format!("{:.0}", outcome.settled.as_secs_f64()));
        cells.push(format!("{:.0}", outcome.took.as_secs_f64()));
        table.row(cells);
    }
    table
}

/// How many jobs were begun how often, in all runs.
pub fn executions(outcomes: &[Outcome]) -> Table {
    let mut jobs: BTreeMap<u64, usize> = BTreeMap::new();
    for outcome in outcomes {
        for (&times, &count) in &outcome.verdict.executions {
            *jobs.entry(times).or_default() += count;
        }
    }
    let mut table = Table::new(["times begun", "jobs"]).right([0, 1]);
    for (times, count) in jobs {
        table.row([times.to_string(), count.to_string()]);
    }
    table
}

/// How soon after each kind of fault a fresh job had ended, in all runs.
pub fn recoveries(outcomes: &[Outcome]) -> Table {
    let mut times: BTreeMap<Kind, Vec<Duration>> = BTreeMap::new();
    for (kind, took) in outcomes.iter().flat_map(|outcome| &outcome.recoveries) {
        times.entry(*kind).or_default().push(*took);
    }
    let header = ["fault", "times", "median s", "worst s"];
    let mut table = Table::new(header).right([1, 2, 3]);
    let seconds = |took: Option<&Duration>| took.map_or(0.0, Duration::as_secs_f64);
    for (kind, mut took) in times {
        took.sort_unstable();
        table.row([
            kind.to_string(),
            took.len().to_string(),
            format!("{:.2}", seconds(took.get(took.len() / 2))),
            format!("{:.2}", seconds(took.last())),
        ]);
    }
    table
}

/// All that is known of a bad job.
pub fn story(bad: &Bad) -> String {
    let account = &bad.account;
    let ids: Vec<String> = account.ids.iter().map(ToString::to_string).collect();
    let mut story = format!("{}: job {}: {}\n", bad.finding, ids.join(", "), bad.why);
    // Writing to a string has no way to fail.
    let _ = writeln!(story, "  ordered: {:?}", account.order);
    for (witness, end) in &account.told {
        let _ = writeln!(story, "  {witness:?} told: {end:?}");
    }
    let record = account.record.as_ref();
    let record = record.map(|record| serde_json::to_string(record).unwrap_or_default());
    let _ = writeln!(story, "  record: {}", record.as_deref().unwrap_or("none"));
    story
}
