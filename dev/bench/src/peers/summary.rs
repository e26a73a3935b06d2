//! Medians over the rounds, and the goals.

use serde::Serialize;

use super::hops::Hops;
use super::measurement::{Cost, Measured, RateMeasures};
use super::system::System;
use crate::args::PeersOptions;
use crate::routes::times::Quantiles;
use crate::sweep::median;

/// The rate of the goals for latency, jobs/s.
const GOAL_RATE: u32 = 100;

/// All measures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Rounds.
    pub rounds: u64,
    /// Slots of each worker process, as measured.
    pub slots: Vec<u32>,
    /// Systems with their slots, in the order of the tables.
    pub systems: Vec<SystemSummary>,
    /// The hops of a job of warmq; `None` if it was not selected.
    pub hops: Option<Hops>,
    /// The goals that the selected systems allow to check.
    pub goals: Vec<Goal>,
}

/// Medians of one system with some slots per worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SystemSummary {
    /// The system.
    pub system: System,
    /// Slots of each worker.
    pub slots: u32,
    /// Its name and version, as reported.
    pub version: Option<String>,
    /// Jobs of a burst.
    pub jobs: usize,
    /// Jobs that ended per second in the burst.
    pub ended_per_s: f64,
    /// Its least and greatest value.
    pub ended_range: (f64, f64),
    /// Submissions that were accepted per second in the burst.
    pub submitted_per_s: f64,
    /// Processor time per job in the burst.
    pub cost: Cost,
    /// By rate, in the order of the options; `None` where it does not keep up in most rounds.
    pub rates: Vec<Option<RateMeasures>>,
}

/// A goal, and whether it is met.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Goal {
    /// What is measured.
    pub name: String,
    /// The bound, with its comparison.
    pub bound: String,
    /// The value.
    pub value: f64,
    /// Whether it is met.
    pub met: bool,
}

impl Summary {
    /// Summarises the measurements of all rounds, in order.
    pub fn of(options: &PeersOptions, measured: &[Measured], hops: Option<Hops>) -> Self {
        let mut systems = Vec::new();
        for system in System::ALL {
            for slots in &options.slots {
                let rounds = of(measured, system, *slots);
                systems.extend(SystemSummary::of(&rounds));
            }
        }
        Self {
            rounds: options.rounds,
            slots: options.slots.clone(),
            goals: goals(options, measured, &systems),
            systems,
            hops,
        }
    }
}

/// Returns the rounds of a system with some slots.
fn of(measured: &[Measured], system: System, slots: u32) -> Vec<&Measured> {
    let of = measured.iter();
    of.filter(|one| one.system == system && one.slots == slots)
        .collect()
}

impl SystemSummary {
    /// Returns `None` of no rounds.
    fn of(rounds: &[&Measured]) -> Option<Self> {
        let first = rounds.first()?;
        let ended = || rounds.iter().map(|round| round.burst.ended_per_s);
        let rates = (0..first.rates.len()).map(|number| {
            let of_rate = rounds.iter().filter_map(|round| round.rates[number]);
            let of_rate: Vec<RateMeasures> = of_rate.collect();
            (2 * of_rate.len() > rounds.len()).then(|| median_rate(&of_rate))
        });
        let costs: Vec<Cost> = rounds.iter().map(|round| round.burst.cost).collect();
        Some(Self {
            system: first.system,
            slots: first.slots,
            version: first.version.clone(),
            jobs: first.burst.jobs,
            ended_per_s: median(ended()),
            ended_range: (
                ended().fold(f64::INFINITY, f64::min),
                ended().fold(0.0, f64::max),
            ),
            submitted_per_s: median(rounds.iter().map(|round| round.burst.submitted_per_s)),
            cost: median_cost(&costs),
            rates: rates.collect(),
        })
    }
}

fn median_cost(costs: &[Cost]) -> Cost {
    let of = |ms: fn(&Cost) -> f64| median(costs.iter().map(ms));
    Cost {
        router_ms: of(|cost| cost.router_ms),
        workers_ms: of(|cost| cost.workers_ms),
        rabbitmq_ms: of(|cost| cost.rabbitmq_ms),
        redis_ms: of(|cost| cost.redis_ms),
        driver_ms: of(|cost| cost.driver_ms),
    }
}

/// Returns the medians; there is at least one round.
fn median_rate(rounds: &[RateMeasures]) -> RateMeasures {
    let quantiles = |times: fn(&RateMeasures) -> Quantiles| {
        let of = |ms: fn(&Quantiles) -> f64| median(rounds.iter().map(|round| ms(&times(round))));
        Quantiles {
            count: times(&rounds[0]).count,
            p50_ms: of(|times| times.p50_ms),
            p95_ms: of(|times| times.p95_ms),
            p99_ms: of(|times| times.p99_ms),
        }
    };
    let costs: Vec<Cost> = rounds.iter().map(|round| round.cost).collect();
    RateMeasures {
        rate: rounds[0].rate,
        start: quantiles(|round| round.start),
        result: quantiles(|round| round.result),
        cost: median_cost(&costs),
    }
}

/// Returns the goals of warmq by both ways of submission.
fn goals(options: &PeersOptions, measured: &[Measured], systems: &[SystemSummary]) -> Vec<Goal> {
    let mut goals = Vec::new();
    let warmq = systems
        .iter()
        .filter(|summary| matches!(summary.system, System::WarmqHttp | System::WarmqAmqp));
    for summary in warmq {
        let (label, slots) = (summary.system.label(), summary.slots);
        let mut add = |what: &str, least: bool, bound: f64, value: f64| {
            goals.push(Goal {
                name: format!("{label}, slots {slots}: {what}"),
                bound: format!("{} {bound}", if least { "≥" } else { "≤" }),
                value,
                met: if least {
                    value >= bound
                } else {
                    value <= bound
                },
            });
        };
        let rounds = of(measured, summary.system, slots);
        for (peer, bound) in [
            (System::Celery, 3.0),
            (System::BullMq, 1.0),
            (System::Bare, 0.5),
        ] {
            let peer_rounds = of(measured, peer, slots);
            // Each round is compared by itself.
            let ratios = rounds.iter().zip(&peer_rounds);
            let ratio =
                median(ratios.map(|(one, peer)| one.burst.ended_per_s / peer.burst.ended_per_s));
            if !peer_rounds.is_empty() {
                add(
                    &format!("ended/s, ratio to {}", peer.label()),
                    true,
                    bound,
                    ratio,
                );
            }
        }
        let number = options.rates.iter().position(|rate| *rate == GOAL_RATE);
        if let Some(number) = number {
            let start = summary.rates[number].map(|rate| rate.start);
            // A rate that it does not keep up with has no bound.
            let ms = |of: fn(Quantiles) -> f64| start.map_or(f64::INFINITY, of);
            add(
                "submit → start at 100/s, p50, ms",
                false,
                2.0,
                ms(|start| start.p50_ms),
            );
            add(
                "submit → start at 100/s, p99, ms",
                false,
                10.0,
                ms(|start| start.p99_ms),
            );
        }
        let cost = &summary.cost;
        add("processor time per job, ms", false, 1.5, cost.total_ms());
        add("RabbitMQ's share of it, ms", false, 0.4, cost.rabbitmq_ms);
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use crate::peers::measurement::BurstMeasures;
    use clap::Parser;

    const COST: Cost = Cost {
        router_ms: 1.0,
        workers_ms: 1.0,
        rabbitmq_ms: 0.4,
        redis_ms: 0.5,
        driver_ms: 9.0,
    };

    fn measured(system: System, ended_per_s: f64, start_ms: Option<f64>) -> Measured {
        let times = |p50_ms| Quantiles {
            count: 1,
            p50_ms,
            p95_ms: p50_ms,
            p99_ms: p50_ms,
        };
        Measured {
            system,
            slots: 1,
            version: None,
            burst: BurstMeasures {
                jobs: 10,
                ended_per_s,
                submitted_per_s: 0.0,
                cost: COST,
            },
            rates: vec![start_ms.map(|ms| RateMeasures {
                rate: GOAL_RATE,
                start: times(ms),
                result: times(2.0 * ms),
                cost: COST,
            })],
        }
    }

    fn options() -> PeersOptions {
        let args = ["warmq-bench", "peers", "--slots", "1", "--rates", "100"];
        match Cli::parse_from(args).command {
            Command::Peers(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_system_is_compared_with_a_peer_round_by_round() {
        let rounds = [(300.0, 100.0), (100.0, 10.0), (40.0, 20.0)];
        let measured: Vec<Measured> = rounds
            .into_iter()
            .flat_map(|(ours, theirs)| {
                [
                    measured(System::WarmqHttp, ours, Some(3.0)),
                    measured(System::Celery, theirs, Some(1.0)),
                ]
            })
            .collect();
        let summary = Summary::of(&options(), &measured, None);
        let goals: Vec<(f64, bool)> = summary.goals.iter().map(|g| (g.value, g.met)).collect();
        // The ratio, p50, p99, processor time without the driver's, RabbitMQ's share.
        let expected = [
            (3.0, true),
            (3.0, false),
            (3.0, true),
            (2.9, false),
            (0.4, true),
        ];
        assert_eq!(goals, expected);
    }

    #[test]
    fn a_rate_counts_if_the_system_keeps_up_in_most_rounds() {
        let of = |starts: [Option<f64>; 3]| {
            let rounds = starts.map(|ms| measured(System::Rq, 50.0, ms));
            let summary = Summary::of(&options(), &rounds, None);
            summary.systems[0].rates[0].map(|rate| rate.result.p50_ms)
        };
        assert_eq!(of([Some(1.0), None, Some(4.0)]), Some(8.0));
        assert_eq!(of([None, None, Some(4.0)]), None);
    }
}
