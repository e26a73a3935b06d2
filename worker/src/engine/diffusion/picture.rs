//! Converts pictures between files and the pipeline.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use warmq_diffusion::Picture;
use warmq_types::job::JobError;

use crate::engine::picture as seam;
use crate::fault::Fault;

/// JPEG quality of a preview: 2 KB at 64 × 64 pixels.
const PREVIEW_QUALITY: u8 = 80;

/// Decodes a user's picture.
///
/// # Errors
/// A 422 with the reason: not a picture, or too large.
pub(super) fn read(file: &[u8]) -> Result<Picture, JobError> {
    let rgb = seam::read(file)?.into_rgb8();
    Ok(Picture {
        width: rgb.width(),
        height: rgb.height(),
        rgb: rgb.into_raw(),
    })
}

/// Encodes a picture as a PNG.
///
/// # Errors
/// The number of pixels does not match the sides.
pub(super) fn png(picture: &Picture) -> Result<Vec<u8>, Fault> {
    let Picture { width, height, rgb } = picture;
    seam::png(rgb, *width, *height, ExtendedColorType::Rgb8)
}

/// Encodes a small picture as a `data:` URI; `None` if it cannot be encoded.
pub(super) fn data_uri(picture: &Picture) -> Option<String> {
    let Picture { width, height, rgb } = picture;
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, PREVIEW_QUALITY)
        .encode(rgb, *width, *height, ExtendedColorType::Rgb8)
        .ok()?;
    Some(format!(
        "data:image/jpeg;base64,{}",
        BASE64_STANDARD.encode(jpeg)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::picture::testing::noise;

    fn preview(width: u32, height: u32) -> String {
        let rgb = noise(width, height).into_raw();
        data_uri(&Picture { width, height, rgb }).unwrap()
    }

    #[test]
    fn a_preview_is_a_few_kilobytes() {
        let large = preview(64, 64);
        assert!(large.starts_with("data:image/jpeg;base64,/9j/"));
        assert!(large.len() < 10_000, "{} bytes of pure noise", large.len());
        let small = preview(8, 8);
        assert!(small.len() < 1_500, "{} bytes", small.len());
    }
}
