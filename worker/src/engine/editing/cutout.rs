//! Removes a picture's background.

use image::DynamicImage;
use schemars::JsonSchema;
use serde::Deserialize;
use warmq_types::job::JobError;

use super::{Edit, background};
use crate::engine::input;

/// Input of the cutout engine: a picture with a plain background, which becomes transparent. The
/// result is a PNG of 8 bits per channel, with alpha.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "CutoutInput")]
pub struct Cutout {
    /// The URL of a PNG, JPEG or WebP of up to 65 MiB and 4096 x 4096 pixels, or a data: URI.
    #[expect(dead_code, reason = "the runner fetches the file that it names")]
    image_url: String,
    /// How much a colour of the background may differ from the border's: 0 is the same colour, 1
    /// the distance from black to white. Only areas connected to the border are background; areas
    /// enclosed by the object stay.
    #[serde(default = "default_tolerance")]
    #[schemars(range(min = 0, max = 1))]
    tolerance: f64,
}

fn default_tolerance() -> f64 {
    0.1
}

impl Edit for Cutout {
    fn check(&self) -> Result<(), JobError> {
        input::check_range(&["tolerance"], self.tolerance, 0.0..=1.0).map(drop)
    }

    fn apply(&self, picture: DynamicImage) -> Result<DynamicImage, JobError> {
        let mut rgba = picture.into_rgba8();
        background::remove(&mut rgba, self.tolerance);
        Ok(rgba.into())
    }
}
