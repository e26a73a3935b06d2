//! Charts: throughput over slots, and latency over the rate of submissions.

use std::path::Path;

use plotters::style::RGBColor;

use super::measurement::RateMeasures;
use super::summary::{Summary, SystemSummary};
use super::system::System;
use crate::chart::{Axis, Chart, Error, Line, Mark, Point};

/// Names of the files.
const THROUGHPUT: &str = "peers-throughput.svg";
const LATENCY: &str = "peers-latency.svg";

/// Both in a document of the same folder.
pub const MARKDOWN: &str = "![jobs per second over slots](peers-throughput.svg)\n\n\
                            ![latency over submissions per second](peers-latency.svg)\n";

/// Returns colour and width of a system's line. The colours suit most kinds of colour vision (Okabe
/// and Ito 2008).
fn style(system: System) -> (RGBColor, u32, bool) {
    match system {
        System::WarmqHttp => (RGBColor(213, 94, 0), 4, false),
        System::WarmqAmqp => (RGBColor(230, 159, 0), 4, false),
        System::Celery => (RGBColor(0, 158, 115), 2, false),
        System::Dramatiq => (RGBColor(204, 121, 167), 2, false),
        System::Rq => (RGBColor(120, 124, 130), 2, false),
        System::BullMq => (RGBColor(0, 114, 178), 2, false),
        System::Bare => (RGBColor(0, 0, 0), 1, true),
    }
}

/// Draws both into a folder.
///
/// # Errors
/// A file cannot be written.
pub fn draw(summary: &Summary, folder: &Path) -> Result<(), Error> {
    throughput(summary).write(&folder.join(THROUGHPUT))?;
    latency(summary).write(&folder.join(LATENCY))
}

/// Returns a line per system: `points` of its rows, which have ascending slots.
fn lines(summary: &Summary, points: impl Fn(&[&SystemSummary]) -> Vec<(f64, f64)>) -> Vec<Line> {
    let line = |system: System| {
        let rows = summary.systems.iter().filter(|row| row.system == system);
        let rows: Vec<&SystemSummary> = rows.collect();
        let (color, width, dashed) = style(system);
        let points = points(&rows).into_iter().map(|(x, y)| Point {
            x,
            y,
            mark: Some(Mark::Filled),
        });
        Line {
            name: system.label().to_owned(),
            color,
            width,
            dashed,
            points: points.collect(),
        }
    };
    let lines = System::ALL.into_iter().map(line);
    lines.filter(|line| !line.points.is_empty()).collect()
}

/// Returns a logarithmic axis around values, with a tick at 1, 2 and 5 of each power of ten.
fn log_axis(label: &'static str, values: impl Iterator<Item = f64>) -> Axis {
    let (least, greatest) = values.fold((f64::INFINITY, 0.0), |(least, greatest), value| {
        (value.min(least), value.max(greatest))
    });
    let range = match least <= greatest {
        true => (least / 1.3, greatest * 1.3),
        false => (1.0, 10.0),
    };
    let powers = (-3..7).map(|power| 10f64.powi(power));
    let ticks = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * power));
    Axis {
        label,
        range,
        ticks: ticks
            .filter(|tick| (range.0..range.1).contains(tick))
            .collect(),
        log: true,
    }
}

/// Returns an axis whose ticks are the values that were measured.
fn measured_axis(label: &'static str, values: impl Iterator<Item = f64> + Clone) -> Axis {
    Axis {
        ticks: values.clone().collect(),
        ..log_axis(label, values)
    }
}

fn throughput(summary: &Summary) -> Chart {
    let ended = |rows: &[&SystemSummary]| {
        let points = rows
            .iter()
            .map(|row| (f64::from(row.slots), row.ended_per_s));
        points.collect()
    };
    Chart {
        title: "No-op jobs that end per second".to_owned(),
        x: measured_axis(
            "slots of each of 2 worker processes",
            summary.slots.iter().map(|slots| f64::from(*slots)),
        ),
        y: log_axis("jobs/s", summary.systems.iter().map(|row| row.ended_per_s)),
        lines: lines(summary, ended),
        notes: vec!["A burst, medians."],
    }
}

fn latency(summary: &Summary) -> Chart {
    let slots = summary.slots.first().copied().unwrap_or_default();
    let rates = || {
        let rows = summary.systems.iter().filter(move |row| row.slots == slots);
        rows.flat_map(|row| row.rates.iter().flatten())
    };
    let median_ms = |rate: &RateMeasures| (f64::from(rate.rate), rate.result.p50_ms);
    let of_slots = |rows: &[&SystemSummary]| {
        let rows = rows.iter().filter(|row| row.slots == slots);
        rows.flat_map(|row| row.rates.iter().flatten())
            .map(median_ms)
            .collect()
    };
    let mut measured: Vec<u32> = rates().map(|rate| rate.rate).collect();
    measured.sort_unstable();
    measured.dedup();
    Chart {
        title: "From the submission of a no-op job to its result".to_owned(),
        x: measured_axis(
            "submissions per second",
            measured.iter().map(|rate| f64::from(*rate)),
        ),
        y: log_axis("ms, median", rates().map(|rate| rate.result.p50_ms)),
        lines: lines(summary, of_slots),
        notes: vec![
            "2 worker processes,",
            "the fewest slots.",
            "Lines end where a",
            "system does not keep up.",
        ],
    }
}
