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
    together(client, ROUTER).await?;
    let (mut added_p50_ms, mut added_p95_ms) = (Vec::new(), Vec::new());
    println!("ms of {CONCURRENT} jobs at a time, of 500 ms each   p50     p95     p99");
    for round in 1..=options.rounds {
        let direct = together(client, BACKEND).await?;
        let routed = together(client, ROUTER).await?;
        for (name, times) in [("to the backend", direct), ("by the router app", routed)] {
            println!(
                "round {round}, {name:<20} {:>18.0} {:>7.0} {:>7.0}",
                times.p50_ms, times.p95_ms, times.p99_ms
            );
        }
        added_p50_ms.push(routed.p50_ms - direct.p50_ms);
        added_p95_ms.push(routed.p95_ms - direct.p95_ms);
    }
    let median = |added: &mut Vec<f64>| {
        added.sort_by(f64::total_cmp);
        quantile(added, 0.5)
    };
    println!(
        "added by the router app, medians of {} rounds: p50 {:.0} ms, p95 {:.0} ms \
         (fal's documentation: under 100 ms)",
        options.rounds,
        median(&mut added_p50_ms),
        median(&mut added_p95_ms)
    );
    Ok(())
}

/// Runs many jobs at a time.
async fn together(client: &SubmitClient, app: &str) -> anyhow::Result<Quantiles> {
    let jobs = (0..CONCURRENT).map(async |index| {
        let begun = Instant::now();
        let input = json!({"prompt": index.to_string()});
        client.run(app, &input).await?;
        anyhow::Ok(begun.elapsed().as_secs_f64() * 1000.0)
    });
    let mut times = Times::default();
    for ms in try_join_all(jobs).await? {
        times.push(ms);
    }
    Ok(times.quantiles())
}
