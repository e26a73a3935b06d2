//! Draws docs/pipeline.png: some prompts, and the picture of each step of
//! deploy/examples/pipeline.toml.
//!
//! ```sh
//! cargo build --bins && cargo run -p warmq-demo --example pipeline -- docs/pipeline.png
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use image::RgbaImage;
use serde_json::{Value, json};
use warmq_cli::client::{Client, Submission};
use warmq_cli::{pictures, progress};
use warmq_demo::sheet::Heading;
use warmq_demo::sheet::rows::{self, Row};
use warmq_testkit::{Deployment, Testbed, WorkerOptions};
use warmq_types::http::Job;
use warmq_types::ids::AppId;

const FILE: &str = "deploy/examples/pipeline.toml";

const ROUTE: &str = "acme/sticker";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        bail!("missing argument: path of the sheet, such as docs/pipeline.png");
    };
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = std::fs::read_to_string(checkout.join(FILE)).context(FILE)?;
    let testbed = Testbed::builder().config(file).start().await?;
    let rows = rows(&testbed, &checkout.join("models")).await;
    testbed.cleanup().await?;
    let heading = Heading {
        title: "One submission, three steps".to_owned(),
        subtitle: format!("{FILE}: each step is a job of its own, on runners of its own"),
    };
    let steps = ["drawn", "enlarged", "cut out"];
    let sheet = rows::draw(&heading, &steps, &rows?);
    sheet
        .save(&path)
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// Runs the prompts, one after the other.
async fn rows(testbed: &Testbed, models: &Path) -> anyhow::Result<Vec<Row>> {
    let workers = [
        WorkerOptions::diffusion("draw", "acme/draw", models),
        WorkerOptions::of("upscale", "upscale", "acme/upscale"),
        WorkerOptions::of("cutout", "cutout", "acme/cutout"),
    ];
    let deployment = Deployment::start(testbed, workers).await?;
    let client = Client::new(deployment.router.url(), None)?;
    let mut rows = Vec::new();
    for input in [
        json!({"prompt": "a red circle on a blue background", "seed": 7}),
        json!({"prompt": "a green star on a black background", "seed": 3}),
        json!({"prompt": "a handwritten seven", "model": "digits", "seed": 402_498_851}),
    ] {
        rows.push(row(&client, input).await?);
    }
    Ok(rows)
}

/// Submits an input, and fetches the picture of each step.
async fn row(client: &Client, input: Value) -> anyhow::Result<Row> {
    let prompt = input["prompt"].as_str().unwrap_or_default().to_owned();
    let submission = Submission::new(AppId::parse(ROUTE)?, input);
    let id = client.submit(&submission).await?.request_id;
    let sticker = progress::follow(client, id).await?.record;
    let mut pictures = Vec::new();
    for step in sticker.flow.map(|flow| flow.steps).unwrap_or_default() {
        let job = client.job(step.job).await?;
        let job = job.with_context(|| format!("step {} has no job", step.name))?;
        pictures.push(picture(client, &job).await?);
    }
    Ok(Row { prompt, pictures })
}

async fn picture(client: &Client, job: &Job) -> anyhow::Result<RgbaImage> {
    let output = job.record.output.as_ref();
    let urls = pictures::urls(output.unwrap_or(&Value::Null));
    let Some(url) = urls.first() else {
        bail!(
            "the output of job {} contains no picture",
            job.record.spec.id
        );
    };
    let file = client.file(url).await?;
    Ok(image::load_from_memory(&file)?.into_rgba8())
}
