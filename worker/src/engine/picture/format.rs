//! The formats of pictures that engines produce.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use schemars::JsonSchema;
use serde::Deserialize;
use warmq_types::fault::FaultKind;

use crate::fault::Fault;

/// JPEG quality: artefacts are invisible, files are about a fifth of PNGs.
const JPEG_QUALITY: u8 = 95;

/// A format of a produced picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OutputFormat {
    #[default]
    Png,
    #[serde(alias = "jpg")]
    Jpeg,
    Webp,
}

impl OutputFormat {
    /// Returns the format of a file name's extension.
    pub(crate) fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::Webp),
            _ => None,
        }
    }

    /// Returns the extension of a file name.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
        }
    }

    /// Returns the MIME type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    /// Encodes pixels, row by row; WebP without loss.
    ///
    /// # Errors
    /// A fault of the engine: the number of pixels does not match the sides, or JPEG lacks an alpha
    /// channel for them.
    pub(crate) fn encode(
        self,
        pixels: &[u8],
        width: u32,
        height: u32,
        colours: ExtendedColorType,
    ) -> Result<Vec<u8>, Fault> {
        let fault = |reason: String| {
            let message = format!("the picture cannot be encoded: {reason}");
            Fault::new(FaultKind::Engine, message)
        };
        // Some encoders panic otherwise.
        let bits = u64::from(width) * u64::from(height) * u64::from(colours.bits_per_pixel());
        if bits != pixels.len() as u64 * 8 {
            let reason = format!("{} bytes for {width} x {height} pixels", pixels.len());
            return Err(fault(reason));
        }
        let mut file = Cursor::new(Vec::new());
        let written = match self {
            Self::Png => PngEncoder::new(&mut file).write_image(pixels, width, height, colours),
            Self::Jpeg => JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY)
                .write_image(pixels, width, height, colours),
            Self::Webp => {
                WebPEncoder::new_lossless(&mut file).write_image(pixels, width, height, colours)
            }
        };
        written.map_err(|error| fault(error.to_string()))?;
        Ok(file.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::noise;
    use super::*;

    const ALL: [OutputFormat; 3] = [OutputFormat::Png, OutputFormat::Jpeg, OutputFormat::Webp];

    #[test]
    fn each_format_is_written_and_recognized_by_its_extension() {
        let picture = noise(16, 8);
        for format in ALL {
            let file = format
                .encode(&picture, 16, 8, ExtendedColorType::Rgb8)
                .unwrap();
            let read = image::load_from_memory(&file).unwrap().into_rgb8();
            assert_eq!(read.dimensions(), (16, 8));
            assert_eq!(read == picture, format != OutputFormat::Jpeg, "{format:?}");
            let guessed = image::guess_format(&file).unwrap();
            assert_eq!(guessed.to_mime_type(), format.content_type());
            assert_eq!(
                OutputFormat::from_extension(format.extension()),
                Some(format)
            );
        }
        assert_eq!(
            OutputFormat::from_extension("JPEG"),
            Some(OutputFormat::Jpeg)
        );
        assert_eq!(OutputFormat::from_extension("gif"), None);
    }

    #[test]
    fn pixels_that_do_not_match_the_sides_are_a_fault() {
        for format in ALL {
            let encoded = format.encode(&[0; 7], 16, 8, ExtendedColorType::Rgb8);
            assert!(encoded.is_err(), "{format:?}");
        }
    }
}
