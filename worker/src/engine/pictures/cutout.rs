//! A picture without its background.

use image::DynamicImage;
use schemars::JsonSchema;
use serde::Deserialize;
use warmq_types::job::JobError;

use super::{Edit, background};
use crate::engine::input;

/// Input of the cutout engine: a picture of something before a plain background, which becomes transparent. The result is a
/// PNG of 8 bits per channel, with alpha.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "CutoutInput")]
pub struct Cutout {
    /// The picture: the URL of a PNG, JPEG or WebP of up to 65 MiB and 4096 x 4096 pixels, or the picture itself as a data: URI.
    #[expect(dead_code, reason = "the runner has got the file that it names")]
    image_url: String,
    /// How far a colour may be from that of the picture's border and still be background: 0 is that very colour, 1 is as far as
    /// black is from white. Only what is connected to the border is background: what the object encloses stays.
    #[serde(default = "default_tolerance")]
    #[schemars(range(min = 0, max = 1))]
    tolerance: f64,
}

fn default_tolerance() -> f64 {
    0.1
}

impl Edit for Cutout {
    fn check(&self) -> Result<(), JobError> {
        input::check_range("tolerance", self.tolerance, 0.0..=1.0).map(drop)
    }

    fn apply(&self, picture: DynamicImage) -> Result<DynamicImage, JobError> {
        let mut rgba = picture.into_rgba8();
        background::remove(&mut rgba, self.tolerance);
        Ok(rgba.into())
    }
}
