//! The tables, as Markdown.

use std::fmt::Write;

use super::hops::Hops;
use super::measurement::{Cost, RateMeasures};
use super::summary::{Summary, SystemSummary};
use super::system::System;
use crate::routes::times::Quantiles;

/// Returns all tables.
pub fn markdown(summary: &Summary) -> String {
    let mut text = String::new();
    for slots in &summary.slots {
        let systems: Vec<&SystemSummary> = summary
            .systems
            .iter()
            .filter(|one| one.slots == *slots)
            .collect();
        let title = match slots {
            1 => "2 worker processes, 1 slot each".to_owned(),
            slots => format!("2 worker processes, {slots} slots each"),
        };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "### {title}\n\n{}\n{}\n",
            bursts(&systems),
            latencies(&systems)
        );
    }
    if let Some(hops) = &summary.hops {
        let _ = write!(text, "### Where the time goes\n\n{}\n", hop_table(hops));
    }
    if !summary.goals.is_empty() {
        let _ = write!(text, "### Goals\n\n{}\n", goals(summary));
    }
    text.trim_end().to_owned() + "\n"
}

/// Returns a Markdown table.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule = vec!["---".to_owned(); head.len()];
    let rows = rows.into_iter().map(|row| line(&row));
    [line(&head), line(&rule)].into_iter().chain(rows).collect()
}

/// Returns name and version.
fn name(summary: &SystemSummary) -> String {
    let label = summary.system.label().to_owned();
    summary.version.clone().unwrap_or(label)
}

fn bursts(systems: &[&SystemSummary]) -> String {
    let head = [
        "a burst",
        "ended/s",
        "least .. greatest",
        "submitted/s",
        "router, ms",
        "workers",
        "RabbitMQ",
        "Redis",
        "sum",
        "driver",
    ];
    table(
        &head,
        systems.iter().map(|one| {
            let Cost {
                router_ms,
                workers_ms,
                rabbitmq_ms,
                redis_ms,
                driver_ms,
            } = one.cost;
            let (least, greatest) = one.ended_range;
            let uses_router = matches!(
                one.system,
                System::WarmqHttp | System::WarmqAmqp | System::Bare
            );
            let uses_rabbitmq = !matches!(one.system, System::Rq | System::BullMq);
            vec![
                name(one),
                format!("{:.0}", one.ended_per_s),
                format!("{least:.0} .. {greatest:.0}"),
                format!("{:.0}", one.submitted_per_s),
                cost(uses_router, router_ms),
                cost(true, workers_ms),
                cost(uses_rabbitmq, rabbitmq_ms),
                cost(true, redis_ms),
                cost(true, one.cost.total_ms()),
                cost(true, driver_ms),
            ]
        }),
    )
}

/// Formats processor time per job.
fn cost(applies: bool, ms: f64) -> String {
    match applies {
        true => format!("{ms:.2}"),
        false => String::new(),
    }
}

fn latencies(systems: &[&SystemSummary]) -> String {
    let rates: Vec<String> = systems.first().map_or_else(Vec::new, |one| {
        one.rates
            .iter()
            .enumerate()
            .map(|(number, _)| rate_of(systems, number))
            .collect()
    });
    let rows = rates.iter().enumerate().flat_map(|(number, rate)| {
        systems
            .iter()
            .map(move |one| row(one, rate, one.rates[number].as_ref()))
    });
    let head = [
        "jobs/s",
        "ms",
        "submit → start, p50 / p95 / p99",
        "submit → result",
        "processor time per job",
    ];
    table(&head, rows)
}

/// Returns the rate with this number, if any system keeps up with it.
fn rate_of(systems: &[&SystemSummary], number: usize) -> String {
    let mut rates = systems.iter().filter_map(|one| one.rates[number]);
    rates
        .next()
        .map_or_else(|| "more".to_owned(), |rate| rate.rate.to_string())
}

fn row(one: &SystemSummary, rate: &str, measured: Option<&RateMeasures>) -> Vec<String> {
    let cells = match measured {
        Some(RateMeasures {
            start,
            result,
            cost,
            ..
        }) => [
            times(start),
            times(result),
            format!("{:.2}", cost.total_ms()),
        ],
        None => ["does not keep up".to_owned(), String::new(), String::new()],
    };
    [rate.to_owned(), name(one)]
        .into_iter()
        .chain(cells)
        .collect()
}

fn times(times: &Quantiles) -> String {
    let Quantiles {
        p50_ms,
        p95_ms,
        p99_ms,
        ..
    } = times;
    format!("{p50_ms:.1} / {p95_ms:.1} / {p99_ms:.1}")
}

fn hop_table(hops: &Hops) -> String {
    let title = format!("one job of {:.0}/s, slots {}, ms", hops.rate, hops.slots);
    let total = ("submit → result", hops.total);
    let rows = hops
        .hops
        .iter()
        .copied()
        .chain([total])
        .map(|(name, times)| {
            let ms = [times.p50_ms, times.p95_ms, times.p99_ms].map(|ms| format!("{ms:.2}"));
            [name.to_owned()].into_iter().chain(ms).collect()
        });
    table(&[&title, "p50", "p95", "p99"], rows)
}

fn goals(summary: &Summary) -> String {
    let rows = summary.goals.iter().map(|goal| {
        let value = match goal.value.is_finite() {
            true => format!("{:.2}", goal.value),
            false => "does not keep up".to_owned(),
        };
        let met = if goal.met { "met" } else { "MISSED" };
        vec![goal.name.clone(), goal.bound.clone(), value, met.to_owned()]
    });
    table(&["goal", "bound", "measured", ""], rows)
}
