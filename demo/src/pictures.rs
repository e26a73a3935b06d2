//! Fetching the pictures through the router, and saving each under a name that sorts.

use std::path::Path;

use anyhow::{Context, bail};
use image::RgbImage;
use serde_json::Value;
use warmq_cli::client::Client;
use warmq_cli::pictures;

use crate::watch::Submitted;

/// Fetches a job's picture and saves it as `<folder>/NN-<model>.png`, as it came.
///
/// # Errors
/// The output names no picture, or it can not be fetched, read or written.
pub async fn save(client: &Client, job: &Submitted, folder: &Path) -> anyhow::Result<RgbImage> {
    let output = job
        .view
        .as_ref()
        .and_then(|view| view.record.output.as_ref());
    let urls = pictures::urls(output.unwrap_or(&Value::Null));
    let Some(url) = urls.first() else {
        bail!("the output of job #{} names no picture", job.order.number);
    };
    let bytes = client.file(url).await?;
    let name = format!("{:02}-{}.png", job.order.number, job.order.model);
    let path = folder.join(name);
    std::fs::write(&path, &bytes)
        .with_context(|| format!("{} can not be written", path.display()))?;
    let picture = image::load_from_memory(&bytes)
        .with_context(|| format!("the picture at {url} can not be read"))?;
    Ok(picture.into_rgb8())
}
