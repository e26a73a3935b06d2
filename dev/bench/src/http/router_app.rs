//! Measures what a router app of fal's package adds: many jobs at a time through one process in
//! Python, which submits each to a backend, against the same jobs sent to the backend.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use futures::future::try_join_all;
use serde_json::json;
use warmq_testkit::{Deployment, Testbed, WorkerOptions};

use super::until_idle;
use crate::args::HttpOptions;
use crate::routes::client::SubmitClient;
use crate::routes::times::{Quantiles, Times};
use crate::simulator::quantile;

const BACKEND: &str = "bench/backend";
const ROUTER: &str = "bench/router";

/// Jobs at a time: `max_multiplexing` of both apps.
const CONCURRENT: usize = 50;

/// Jobs per measure.
const MIN_JOBS: usize = 10;

/// Measures and prints. `python` has fal's package.
pub(super) async fn measure(options: &HttpOptions, python: &Path) -> anyhow::Result<()> {
    let python = std::path::absolute(python).context("the path of Python")?;
    let testbed = Testbed::builder().start().await?;
    let deployment = Deployment::start(&testbed, []).await?;
    let router = deployment.router.url().to_owned();
    let measured = async {
        let _workers = [
            testbed
                .worker(app(BACKEND, "Backend", &python, &router))
                .await?,
            testbed
                .worker(app(ROUTER, "Router", &python, &router))
                .await?,
        ];
        for app in [BACKEND, ROUTER] {
            until_idle(&testbed, app).await?;
        }
        rounds(options, &SubmitClient::new(&router)).await
    };
    let measured = measured.await;
    deployment.stop().await;
    testbed.cleanup().await?;
    measured
}

fn app(app: &str, class: &str, python: &Path, router: &str) -> WorkerOptions {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/http/apps.py");
    let class = format!("--fal={}::{class}", file.display());
    let python = format!("--python={}", python.display());
    let options = WorkerOptions::of("http", &runner_name(app), app).args([class, python]);
    options.env("WARMQ_URL", router)
}

fn runner_name(app: &str) -> String {
    app.replace('/', "-")
}

async fn rounds(options: &HttpOptions, client: &SubmitClient) -> anyhow::Result<()> {
    together(client, ROUTER, CONCURRENT).await?;
    let mut added = [1, CONCURRENT].map(|at_a_time| (at_a_time, Added::default()));
    println!("ms of a job of 500 ms                     p50     p95     p99");
    for round in 1..=options.rounds {
        for (at_a_time, added) in &mut added {
            let direct = in_batches(client, BACKEND, *at_a_time).await?;
            let routed = in_batches(client, ROUTER, *at_a_time).await?;
            for (name, times) in [("to the backend", direct), ("by the router app", routed)] {
                println!(
                    "round {round}, {at_a_time:>2} at a time, {name:<17} {:>7.0} {:>7.0} {:>7.0}",
                    times.p50_ms, times.p95_ms, times.p99_ms
                );
            }
            added.p50_ms.push(routed.p50_ms - direct.p50_ms);
            added.p95_ms.push(routed.p95_ms - direct.p95_ms);
        }
    }
    for (at_a_time, mut added) in added {
        println!(
            "added by the router app, {at_a_time} at a time, medians of {} rounds: p50 {:.0} ms, \
             p95 {:.0} ms (fal's documentation: under 100 ms)",
            options.rounds,
            median(&mut added.p50_ms),
            median(&mut added.p95_ms)
        );
    }
    Ok(())
}

/// What the router app adds in each round.
#[derive(Default)]
struct Added {
    p50_ms: Vec<f64>,
    p95_ms: Vec<f64>,
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    quantile(numbers, 0.5)
}

/// Runs at least [`MIN_JOBS`], some at a time.
async fn in_batches(
    client: &SubmitClient,
    app: &str,
    at_a_time: usize,
) -> anyhow::Result<Quantiles> {
    let mut times = Times::default();
    for _ in 0..MIN_JOBS.div_ceil(at_a_time) {
        for ms in together(client, app, at_a_time).await? {
            times.push(ms);
        }
    }
    Ok(times.quantiles())
}

/// Runs jobs, all at a time, and returns how long each took, ms.
async fn together(client: &SubmitClient, app: &str, jobs: usize) -> anyhow::Result<Vec<f64>> {
    let jobs = (0..jobs).map(async |index| {
        let begun = Instant::now();
        let input = json!({"prompt": index.to_string()});
        client.run(app, &input).await?;
        anyhow::Ok(begun.elapsed().as_secs_f64() * 1000.0)
    });
    try_join_all(jobs).await
}
