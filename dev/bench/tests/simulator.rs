//! Guarantees of the simulator.
#![allow(clippy::unwrap_used, reason = "a panic fails the test, in helpers too")]

use clap::Parser;
use warmq_bench::args::{Cli, Command, Options};
use warmq_bench::simulator::{Outcome, simulate};

fn options(arguments: &str) -> Options {
    let line = ["warmq-bench", "sim"].into_iter();
    let line = line.chain(arguments.split_whitespace());
    match Cli::try_parse_from(line).unwrap().command {
        Command::Sim(options) => options,
        _ => unreachable!("it says sim"),
    }
}

fn sim(arguments: &str) -> Outcome {
    simulate(&options(arguments)).unwrap()
}

const ALL: [&str; 6] = ["warm", "fal", "shared", "hash", "lard", "multiplex"];

#[test]
fn the_same_seed_gives_the_same_result_and_another_seed_another() {
    for policy in ALL {
        let run = |seed| {
            sim(&format!(
                "--policy {policy} --rho 0.15 --jobs 2000 --mtbf-s 300 --view-delay-ms 100 --seed {seed}"
            ))
        };
        assert_eq!(run(1), run(1), "{policy}");
        assert_ne!(run(1), run(2), "{policy}");
    }
}

#[test]
fn every_policy_runs_warm_jobs_at_once_when_there_is_one_model_and_little_to_do() {
    // LARD lets one runner's queue grow to L/S jobs before it uses a second one, so it is not an
    // example.
    for policy in ALL.into_iter().filter(|policy| *policy != "lard") {
        let outcome = sim(&format!(
            "--policy {policy} --models 1 --rho 0.02 --jobs 4000"
        ));
        assert!(outcome.stable, "{policy}");
        assert!(
            (1.9..2.5).contains(&outcome.mean_s),
            "{policy}: {} s",
            outcome.mean_s
        );
    }
}

#[test]
fn jobs_survive_bursts_batches_drift_and_failures_under_every_policy() {
    for policy in ALL {
        let outcome = sim(&format!(
            "--policy {policy} --rho 0.1 --jobs 3000 --mmpp --batch --drift-s 60 --mtbf-s 600 --repair-s 20 --drop 0"
        ));
        assert!(outcome.stable, "{policy}");
    }
}

#[test]
fn warm_keeps_up_where_fal_thrashes() {
    let warm = sim("--policy warm --models 48 --rho 0.7 --jobs 20000");
    assert!(warm.stable && warm.mean_s < 3.0, "{warm}");
    let fal = sim("--policy fal --models 48 --rho 0.7 --jobs 40000");
    assert!(!fal.stable && fal.mean_s > 30.0, "{fal}");
}

#[test]
fn warm_saturated_uses_most_of_the_fleet() {
    let outcome = sim("--policy warm --models 48 --closed --jobs 20000");
    assert!(outcome.throughput > 0.95, "{outcome}");
}

#[test]
fn the_json_names_what_benchmarks_read() {
    let outcome = sim("--jobs 500");
    let json = serde_json::to_value(&outcome).unwrap();
    let mut names: Vec<&str> = json
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "load_s_per_job",
            "mean_s",
            "p50_s",
            "p95_s",
            "p99_s",
            "stable",
            "swaps_per_job",
            "throughput"
        ]
    );
}

#[test]
fn a_trace_is_replayed_exactly() {
    let path = std::env::temp_dir().join(format!("warmq-bench-trace-{}", std::process::id()));
    std::fs::write(
        &path,
        "{\"at_s\": 0, \"hint\": \"a\", \"run_s\": 2}\n\
         {\"t\": 100, \"model\": \"a\", \"service_s\": 3}\n\
         {\"at_s\": 200, \"hint\": \"b\", \"run_s\": 4}\n",
    )
    .unwrap();
    let outcome = sim(&format!("--trace {} --drop 0", path.display()));
    std::fs::write(
        &path,
        "{\"at_s\": 5, \"hint\": \"a\"}\n{\"at_s\": 4, \"hint\": \"a\"}\n",
    )
    .unwrap();
    let refused = simulate(&options(&format!("--trace {}", path.display())));
    std::fs::remove_file(&path).unwrap();
    // Two loads of 10 s, and runs of 2, 3 and 4 s.
    assert!((outcome.mean_s - 29.0 / 3.0).abs() < 1e-9, "{outcome}");
    assert!((outcome.swaps_per_job - 2.0 / 3.0).abs() < 1e-9);
    assert!(refused.unwrap_err().to_string().contains("line 2"));
}

#[test]
fn models_in_ram_shorten_jobs_more_if_the_policy_knows_of_them() {
    let run = |ram: &str| sim(&format!("--models 96 --rho 0.5 --jobs 8000 {ram}"));
    let (without, ignored) = (run(""), run("--ram-slots 3 --ignore-tiers"));
    let known = run("--ram-slots 3");
    assert!(ignored.mean_s < without.mean_s, "{ignored} {without}");
    assert!(known.mean_s < 0.8 * ignored.mean_s, "{known} {ignored}");
    assert!(known.load_s_per_job < 0.5 * ignored.load_s_per_job);
    assert_eq!(run("--ram-slots 0 --ram-load-ratio 3"), without);
}
