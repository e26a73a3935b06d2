//! The two charts of docs/routing-policy.md, for every policy: mean latency over load, and swaps
//! over the number of models.

use plotters::style::RGBColor;

use crate::args::{CurvesOptions, Options, PolicyName};
use crate::chart::{Axis, Chart, Line, Mark, Point};
use crate::pooled_bound::{self, PooledBound};
use crate::simulator::Outcome;
use crate::sweep::{each, median, simulate_all};
use crate::targets;

/// Upper limit of the chart, s: above it jobs pile up, or soon will.
const MAX_MEAN_S: f64 = 60.0;
/// Number of models in the first chart.
const MODELS: u32 = 48;
/// Load in the second chart.
const LOAD: f64 = 0.5;
/// Numbers of models in the second chart.
const POINTS: [u32; 10] = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384];

/// Returns the loads of the first chart, in steps of 1/40.
fn loads() -> impl Iterator<Item = f64> {
    (1..40).map(|step| f64::from(step) / 40.0)
}

/// Returns name, colour and width of a policy's line. The colours suit most kinds of colour vision
/// (Okabe and Ito 2008).
fn style(policy: PolicyName) -> (&'static str, RGBColor, u32) {
    match policy {
        PolicyName::Warm => ("warm (warmq)", RGBColor(213, 94, 0), 4),
        PolicyName::Lard => ("LARD/R", RGBColor(0, 114, 178), 2),
        PolicyName::Hash => ("bounded hashing", RGBColor(0, 158, 115), 2),
        PolicyName::Multiplex => ("Ray Serve's rule", RGBColor(204, 121, 167), 2),
        PolicyName::Fal => ("fal's rule", RGBColor(86, 180, 233), 2),
        PolicyName::Shared => ("shared queue", RGBColor(120, 124, 130), 2),
    }
}

fn line(policy: PolicyName, points: Vec<Point>) -> Line {
    let (name, color, width) = style(policy);
    Line {
        name: name.to_owned(),
        color,
        width,
        dashed: false,
        points,
    }
}

fn bound_line(points: Vec<Point>) -> Line {
    Line {
        name: "pooled bound".to_owned(),
        color: RGBColor(0, 0, 0),
        width: 1,
        dashed: true,
        points,
    }
}

/// Medians over the seeds of one point.
struct Median {
    mean_s: f64,
    swaps_per_job: f64,
    /// Whether the policy keeps up and its mean is within the chart.
    keeps_up: bool,
}

impl Median {
    fn of(outcomes: &[Outcome]) -> Self {
        let mean_s = median(outcomes.iter().map(|outcome| outcome.mean_s));
        let unstable = outcomes.iter().filter(|outcome| !outcome.stable).count();
        Self {
            mean_s,
            swaps_per_job: median(outcomes.iter().map(|outcome| outcome.swaps_per_job)),
            keeps_up: 2 * unstable < outcomes.len() && mean_s <= MAX_MEAN_S,
        }
    }
}

/// Simulates each workload with each seed under each policy. Returns medians by policy, then by
/// workload.
fn medians(what: &str, workloads: &[Options], seeds: u64) -> anyhow::Result<Vec<Vec<Median>>> {
    let runs: Vec<Options> = PolicyName::ALL
        .into_iter()
        .flat_map(|policy| workloads.iter().map(move |workload| (policy, workload)))
        .flat_map(|(policy, workload)| {
            (1..=seeds).map(move |seed| Options {
                policy,
                seed,
                ..workload.clone()
            })
        })
        .collect();
    let outcomes = simulate_all(what, &runs)?;
    let medians: Vec<Median> = outcomes.chunks(seeds as usize).map(Median::of).collect();
    let mut medians = medians.into_iter();
    Ok(PolicyName::ALL
        .map(|_| medians.by_ref().take(workloads.len()).collect())
        .into())
}

fn bounds(what: &str, workloads: &[Options]) -> anyhow::Result<Vec<PooledBound>> {
    Ok(each(what, workloads, pooled_bound::pooled)?)
}

/// Returns a policy's points while it keeps up, and where its line leaves the chart.
fn stable_points(medians: &[Median]) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    for (load, median) in loads().zip(medians) {
        if median.keeps_up {
            points.push(Point {
                x: load,
                y: median.mean_s,
                mark: None,
            });
            continue;
        }
        if let Some(last) = points.last().copied() {
            // Where the line to this point leaves the chart, on its logarithmic axis.
            let above_s = median.mean_s.max(MAX_MEAN_S * 1.01);
            let part = (MAX_MEAN_S / last.y).ln() / (above_s / last.y).ln();
            points.push(Point {
                x: last.x + (load - last.x) * part,
                y: MAX_MEAN_S,
                mark: None,
            });
        }
        break;
    }
    points
}

fn latency(seeds: u64) -> anyhow::Result<Chart> {
    let base = Options {
        models: MODELS,
        ..targets::base(PolicyName::Warm, 1)
    };
    let workloads: Vec<Options> = loads()
        .map(|rho| Options {
            rho,
            ..base.clone()
        })
        .collect();
    let measured = medians("latency", &workloads, seeds)?;
    let mut lines: Vec<Line> = PolicyName::ALL
        .into_iter()
        .zip(&measured)
        .map(|(policy, medians)| line(policy, stable_points(medians)))
        .collect();
    let bounds = bounds("pooled bound", &workloads)?;
    let points = loads().zip(bounds).map(|(x, bound)| Point {
        x,
        y: bound.mean_s,
        mark: None,
    });
    lines.insert(0, bound_line(points.collect()));
    lines.reverse();
    Ok(Chart {
        title: "Mean time from arrival to picture".to_owned(),
        x: Axis {
            label: "load, as a part of what the fleet could do if every job were warm",
            range: (0.0, 1.0),
            ticks: (0..=10).map(|tenth| f64::from(tenth) / 10.0).collect(),
            log: false,
        },
        y: Axis {
            label: "seconds",
            range: (1.8, MAX_MEAN_S),
            ticks: vec![2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0],
            log: true,
        },
        lines,
        notes: vec![
            "32 runners of 3 models,",
            "48 models (Zipf 0.9),",
            "a run 2 s, a load 10 s.",
            "Lines end where",
            "jobs pile up.",
        ],
    })
}

fn swaps(seeds: u64) -> anyhow::Result<Chart> {
    let base = Options {
        rho: LOAD,
        ..targets::base(PolicyName::Warm, 1)
    };
    let workloads: Vec<Options> = POINTS
        .into_iter()
        .map(|models| Options {
            models,
            ..base.clone()
        })
        .collect();
    let measured = medians("swaps", &workloads, seeds)?;
    let point = |models: u32, swaps: f64, mark: Option<Mark>| Point {
        x: f64::from(models),
        y: swaps,
        mark,
    };
    let mut lines: Vec<Line> = PolicyName::ALL
        .into_iter()
        .zip(&measured)
        .map(|(policy, medians)| {
            let points = POINTS.into_iter().zip(medians).map(|(models, median)| {
                let mark = match median.keeps_up {
                    true => Mark::Filled,
                    false => Mark::Hollow,
                };
                point(models, median.swaps_per_job, Some(mark))
            });
            line(policy, points.collect())
        })
        .collect();
    let bounds = bounds("pooled bound", &workloads)?;
    let points = POINTS
        .into_iter()
        .zip(bounds)
        .map(|(models, bound)| point(models, bound.swaps_per_job, None));
    lines.insert(0, bound_line(points.collect()));
    lines.reverse();
    Ok(Chart {
        title: "Jobs that had to load their model".to_owned(),
        x: Axis {
            label: "models that jobs ask for (the fleet holds 96 at once)",
            range: (14.0, 420.0),
            ticks: [16, 24, 32, 48, 64, 96, 128, 192, 256, 384]
                .map(f64::from)
                .to_vec(),
            log: true,
        },
        y: Axis {
            label: "loads per job",
            range: (0.0, 1.0),
            ticks: (0..=5).map(|fifth| f64::from(fifth) / 5.0).collect(),
            log: false,
        },
        lines,
        notes: vec![
            "32 runners of 3 models,",
            "half of what they could",
            "do if every job were warm.",
            "Rings: jobs pile up;",
            "there the shared queue",
            "does as fal's rule.",
        ],
    })
}

/// Draws both charts.
///
/// # Errors
/// A workload cannot be generated, or a file not written.
pub fn draw(options: &CurvesOptions) -> anyhow::Result<()> {
    std::fs::create_dir_all(&options.out)?;
    for (name, chart) in [
        ("routing-latency.svg", latency(options.seeds)?),
        ("routing-swaps.svg", swaps(options.seeds)?),
    ] {
        let path = options.out.join(name);
        chart.write(&path)?;
        println!("{}", path.display());
    }
    Ok(())
}
