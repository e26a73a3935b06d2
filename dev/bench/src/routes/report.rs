//! The table of measures and bounds.

use super::summary::{
    BETWEEN_STEPS_MS, BaselineSummary, LatencySummary, Ratio, SUBMIT_MS, Submission, Summary,
    THROUGHPUT,
};
use super::targets::Target;
use super::throughput::{Rates, Round, SUBMITTERS};
use super::times::Quantiles;
use crate::sweep::median;

/// Prints everything.
pub fn print(summary: &Summary) {
    for run in &summary.latency {
        print_submissions(run);
        print_steps(run, &summary.baseline);
    }
    print_throughput(summary);
}

/// Returns `met` or `MISSED`.
fn met_or_missed(met: bool) -> &'static str {
    match met {
        true => "met",
        false => "MISSED",
    }
}

/// Describes the background load.
fn beside(run: &LatencySummary) -> String {
    match run.flows {
        0 => "no background load".to_owned(),
        flows => format!(
            "{flows} background flows, steps of {} ms, {:.0} steps/s",
            run.step_ms, run.steps_per_s
        ),
    }
}

fn print_submissions(run: &LatencySummary) {
    println!("submissions, {}", beside(run));
    println!(
        "  {:<38} {:>5} {:>8} {:>8} {:>8} {:>9}",
        "ms", "count", "p50", "p95", "p99", "added"
    );
    for submission in &run.submissions {
        let Submission {
            target, added_ms, ..
        } = submission;
        let added = match target {
            Target::Direct => String::new(),
            _ => {
                let met = met_or_missed(*added_ms < SUBMIT_MS);
                format!("{added_ms:>+9.2}  < {SUBMIT_MS} {met}")
            }
        };
        println!(
            "{} {added}",
            line(target.label(), &submission.answered).trim_end()
        );
    }
}

fn print_steps(run: &LatencySummary, baseline: &BaselineSummary) {
    let what = match run.flows {
        0 => "one flow at a time".to_owned(),
        _ => beside(run),
    };
    println!("between steps, {what}");
    let gaps = &run.gaps;
    let met = met_or_missed(gaps.between.p50_ms < BETWEEN_STEPS_MS);
    println!(
        "{} {:>9}  < {BETWEEN_STEPS_MS} {met}",
        line("end of a step to the next one's record", &gaps.between),
        ""
    );
    let parts = [
        ("  until a router has read the flow", &gaps.flow_read),
        ("  from there to the record", &gaps.step_recorded),
        ("then to its start", &gaps.sent),
        ("a job without a flow, record to start", &run.direct_sent),
    ];
    for (name, part) in parts {
        println!("{}", line(name, part));
    }
    if run.flows > 0 {
        let BaselineSummary {
            clients,
            steps_per_s,
            between,
        } = baseline;
        let name = "end to record, by clients";
        println!(
            "{}  {clients} clients, {steps_per_s:.0} steps/s",
            line(name, between)
        );
    }
    println!();
}

fn line(name: &str, times: &Quantiles) -> String {
    let Quantiles {
        count,
        p50_ms,
        p95_ms,
        p99_ms,
    } = times;
    format!("  {name:<38} {count:>5} {p50_ms:>8.2} {p95_ms:>8.2} {p99_ms:>8.2}")
}

fn print_throughput(summary: &Summary) {
    println!(
        "throughput, {SUBMITTERS} submitters, median of {} rounds",
        summary.rounds.len()
    );
    println!(
        "  {:<36} {:>8} {:>8} {:>8}  (least .. greatest)",
        "per second", "direct", "split", "ratio"
    );
    let rates = |of: fn(&Round) -> &Rates, rate: fn(&Rates) -> f64| {
        median(summary.rounds.iter().map(|round| rate(of(round))))
    };
    let row = |name: &str, rate: fn(&Rates) -> f64, ratio: &Ratio| {
        let (direct, split) = (
            rates(|round| &round.direct, rate),
            rates(|round| &round.split, rate),
        );
        let Ratio {
            median,
            least,
            greatest,
        } = ratio;
        let met = met_or_missed(*median >= THROUGHPUT);
        println!(
            "  {name:<36} {direct:>8.0} {split:>8.0} {median:>8.3}  ({least:.3} .. {greatest:.3})  >= {THROUGHPUT} {met}"
        );
    };
    row(
        "submissions accepted",
        |rates| rates.accepted_per_s,
        &summary.accepted,
    );
    row("jobs ended", |rates| rates.ended_per_s, &summary.ended);
}
