//! Fetches the pictures through the router, saves them under sortable names, and compares them.

use std::path::Path;

use anyhow::{Context, bail};
use image::RgbImage;
use serde_json::Value;
use warmq_cli::client::Client;
use warmq_cli::pictures;

use crate::plan::PlannedJob;
use crate::snapshot::Submitted;

/// A job's picture.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The job.
    pub planned: PlannedJob,
    /// The file as received.
    pub file: Vec<u8>,
    /// Its pixels.
    pub pixels: RgbImage,
}

impl Picture {
    /// Fetches a job's picture.
    ///
    /// # Errors
    /// The output contains no picture, or it cannot be fetched or decoded.
    pub async fn fetch(client: &Client, job: &Submitted) -> anyhow::Result<Self> {
        let output = job
            .view
            .as_ref()
            .and_then(|view| view.record.output.as_ref());
        let urls = pictures::urls(output.unwrap_or(&Value::Null));
        let Some(url) = urls.first() else {
            bail!(
                "the output of job #{} contains no picture",
                job.planned.number
            );
        };
        let file = client.file(url).await?.to_vec();
        let picture = image::load_from_memory(&file)
            .with_context(|| format!("the picture at {url} cannot be decoded"))?;
        Ok(Self {
            planned: job.planned,
            file,
            pixels: picture.into_rgb8(),
        })
    }

    /// Saves the file as `<folder>/NN-<model>.png`.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let name = format!("{:02}-{}.png", self.planned.number, self.planned.model);
        let path = folder.join(name);
        std::fs::write(&path, &self.file)
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// Describes whether the pictures of two runs are the same.
pub fn same(first: &[Picture], second: &[Picture]) -> String {
    let pairs = first.iter().zip(second);
    let same = pairs.filter(|(a, b)| a.pixels == b.pixels).count();
    match first.len() {
        all if all == same => {
            format!(
                "All {all} pictures of the second run equal those of the first, pixel by pixel."
            )
        }
        all => format!(
            "Of {all} pictures, {same} are the same in both runs, pixel by pixel; the others differ."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    #[test]
    fn a_pixel_that_differs_is_reported() {
        let picture = |planned| Picture {
            planned,
            file: Vec::new(),
            pixels: RgbImage::new(2, 2),
        };
        let first: Vec<Picture> = plan::jobs().into_iter().map(picture).collect();
        let mut second = first.clone();
        assert!(same(&first, &second).starts_with("All 24 pictures"));
        second[7].pixels.get_pixel_mut(1, 1).0[0] = 1;
        assert!(same(&first, &second).starts_with("Of 24 pictures, 23 are the same"));
    }
}
