//! The measures as Markdown; those of the fleets are medians of the rounds.

use std::fmt::Write as _;

use super::backlog::Backlog;
use super::measurement::{BURST_RUN_MS, Burst, Fleet, Measured};
use crate::peers::processor_time::Part;
use crate::sweep::median;

/// The parts whose time is shown.
const PARTS: [(Part, &str); 4] = [
    (Part::Router, "router"),
    (Part::Workers, "workers"),
    (Part::RabbitMq, "RabbitMQ"),
    (Part::Redis, "Redis"),
];

/// A row of a table: its name, and its value in a round.
type Row<'a> = (String, &'a dyn Fn(&Fleet, &Measured) -> f64);

/// Returns the tables of the fleets.
pub fn fleets(measured: &[(Fleet, Vec<Measured>)]) -> String {
    let mut text = String::new();
    let header: String = (measured.iter())
        .map(|(fleet, _)| {
            let runners = fleet.size.runners();
            format!(" {runners} runners, jobs of {} ms |", fleet.run_ms)
        })
        .collect();
    let rule = " ---: |".repeat(measured.len());
    let mut table = |title: &str, rows: &[Row<'_>]| {
        let _ = write!(text, "| {title} |{header}\n| --- |{rule}\n");
        for (name, value) in rows {
            let _ = write!(text, "| {name} |");
            for (fleet, rounds) in measured {
                let values = rounds.iter().map(|round| value(fleet, round));
                let _ = write!(text, " {:.2} |", median(values));
            }
            text.push('\n');
        }
        text.push('\n');
    };
    let router = |_: &Fleet, round: &Measured| 100.0 * round.idle.cores(Part::Router);
    let worker = |fleet: &Fleet, round: &Measured| {
        100.0 * round.idle.cores(Part::Workers) / f64::from(fleet.size.workers)
    };
    let rabbitmq = |_: &Fleet, round: &Measured| 100.0 * round.idle.cores(Part::RabbitMq);
    let redis = |_: &Fleet, round: &Measured| 100.0 * round.idle.cores(Part::Redis);
    let router_mb = |_: &Fleet, round: &Measured| round.router_bytes as f64 / 1e6;
    let worker_mb = |_: &Fleet, round: &Measured| round.worker_bytes as f64 / 1e6;
    table(
        "without jobs",
        &[
            ("router, % of a core".to_owned(), &router),
            ("a worker process, % of a core".to_owned(), &worker),
            ("RabbitMQ, % of a core".to_owned(), &rabbitmq),
            ("Redis, % of a core".to_owned(), &redis),
            ("router, MB".to_owned(), &router_mb),
            ("a worker process, MB".to_owned(), &worker_mb),
        ],
    );
    let by_part = PARTS.map(|(part, name)| {
        let value = move |_: &Fleet, round: &Measured| round.job_ms(part);
        (name.to_owned(), value)
    });
    let total = |_: &Fleet, round: &Measured| -> f64 {
        PARTS.iter().map(|(part, _)| round.job_ms(*part)).sum()
    };
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (name, value) in &by_part {
        rows.push((name.clone(), value));
    }
    rows.push(("all".to_owned(), &total));
    table("processor time per job, ms", &rows);
    text.push_str(&bursts(measured));
    text
}

/// Returns the table of a queue's lengths.
pub fn backlogs(measured: &[Backlog]) -> String {
    let mut text = String::from("\n| waiting jobs |");
    for backlog in measured {
        let _ = write!(text, " {} |", backlog.jobs);
    }
    let _ = write!(text, "\n| --- |{}\n", " ---: |".repeat(measured.len()));
    let mut row = |name: &str, value: &dyn Fn(&Backlog) -> f64| {
        let _ = write!(text, "| {name} |");
        for backlog in measured {
            let _ = write!(text, " {:.1} |", value(backlog));
        }
        text.push('\n');
    };
    row("submissions per second", &|backlog| backlog.submitted_per_s);
    row("a submission alone, ms", &|backlog| backlog.submit_ms);
    row("a status with its position, ms", &|backlog| {
        backlog.status_ms
    });
    row("router, MB", &|backlog| backlog.router_bytes as f64 / 1e6);
    row("RabbitMQ, MB", &|backlog| {
        backlog.rabbitmq_bytes as f64 / 1e6
    });
    row("Redis, MB", &|backlog| backlog.redis_bytes as f64 / 1e6);
    text
}

/// Returns a sentence per burst.
fn bursts(measured: &[(Fleet, Vec<Measured>)]) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let mut text = String::new();
    for (fleet, rounds) in measured {
        let bursts: Vec<Burst> = rounds.iter().filter_map(|round| round.burst).collect();
        let Some(first) = bursts.first() else {
            continue;
        };
        let took_s = median(bursts.iter().map(|burst| burst.took_s));
        let busy = |burst: &Burst| {
            100.0 * burst.usage.total().as_secs_f64() / (cores * burst.usage.elapsed.as_secs_f64())
        };
        let busy = median(bursts.iter().map(busy));
        let _ = writeln!(
            text,
            "A burst of jobs of {BURST_RUN_MS} ms on {} warm runners: {took_s:.2} s (without any \
             cost: {:.2} s); the processors were busy for {busy:.0} % of the time until all \
             results were read.",
            fleet.size.runners(),
            first.ideal_s
        );
    }
    text
}
