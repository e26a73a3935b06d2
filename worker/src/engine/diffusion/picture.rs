//! Converts pictures between files and the pipeline.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, Rgb, Rgba, RgbaImage, imageops};
use warmq_diffusion::{Mask, Picture};

use crate::engine::picture::{self as seam, OutputFormat, UnreadablePicture};
use crate::fault::Fault;

/// JPEG quality of a preview: 2 KB at 64 × 64 pixels.
const PREVIEW_QUALITY: u8 = 80;

/// Decodes a user's picture. Transparent parts become white: their hidden colours are arbitrary,
/// mostly black.
///
/// # Errors
/// The reason for its owner: not a picture, truncated, or too large.
pub(crate) fn read(file: &[u8]) -> Result<Picture, UnreadablePicture> {
    let decoded = seam::read(file)?;
    let rgb = match decoded.color().has_alpha() {
        true => {
            let (width, height) = (decoded.width(), decoded.height());
            let mut page = RgbaImage::from_pixel(width, height, Rgba([255; 4]));
            imageops::overlay(&mut page, &decoded.into_rgba8(), 0, 0);
            image::DynamicImage::from(page).into_rgb8()
        }
        false => decoded.into_rgb8(),
    };
    Ok(Picture {
        width: rgb.width(),
        height: rgb.height(),
        rgb: rgb.into_raw(),
    })
}

/// Decodes a user's mask.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_mask(file: &[u8]) -> Result<Mask, UnreadablePicture> {
    let rgb = seam::read(file)?.into_rgb8();
    Ok(Mask {
        width: rgb.width(),
        height: rgb.height(),
        luma: rgb.pixels().map(|pixel| luma(*pixel)).collect(),
    })
}

/// Returns the gray of a colour by ITU-R BT.601, with the factors and rounding of Pillow, which
/// Python's diffusers uses.
fn luma(Rgb([red, green, blue]): Rgb<u8>) -> u8 {
    let weighted = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue);
    // The factors add up to 1 << 16, so it fits.
    ((weighted + (1 << 15)) >> 16) as u8
}

/// Encodes a picture.
///
/// # Errors
/// The number of pixels does not match the sides.
pub(crate) fn encode(picture: &Picture, format: OutputFormat) -> Result<Vec<u8>, Fault> {
    let Picture { width, height, rgb } = picture;
    format.encode(rgb, *width, *height, ExtendedColorType::Rgb8)
}

/// Returns a file as a `data:` URI.
pub(super) fn data_uri(content_type: &str, file: &[u8]) -> String {
    format!(
        "data:{content_type};base64,{}",
        BASE64_STANDARD.encode(file)
    )
}

/// Encodes a small picture as a `data:` URI; `None` if it cannot be encoded.
pub(super) fn preview(picture: &Picture) -> Option<String> {
    let Picture { width, height, rgb } = picture;
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, PREVIEW_QUALITY)
        .encode(rgb, *width, *height, ExtendedColorType::Rgb8)
        .ok()?;
    Some(data_uri("image/jpeg", &jpeg))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::picture::testing::noise;

    fn preview_of(width: u32, height: u32) -> String {
        let rgb = noise(width, height).into_raw();
        preview(&Picture { width, height, rgb }).unwrap()
    }

    #[test]
    fn transparent_parts_become_white_and_half_transparent_ones_lighter() {
        let hidden = Rgba([0, 0, 0, 0]);
        let mut cutout = RgbaImage::from_pixel(2, 2, hidden);
        cutout.put_pixel(1, 0, Rgba([200, 0, 0, 255]));
        cutout.put_pixel(1, 1, Rgba([0, 0, 0, 128]));
        let mut file = std::io::Cursor::new(Vec::new());
        cutout.write_to(&mut file, image::ImageFormat::Png).unwrap();
        let picture = read(&file.into_inner()).unwrap();
        let grey = picture.rgb[9..12].to_vec();
        assert_eq!(picture.rgb[..9], [255, 255, 255, 200, 0, 0, 255, 255, 255]);
        assert!(grey.iter().all(|part| part.abs_diff(127) <= 1), "{grey:?}");
    }

    #[test]
    fn masks_in_colour_are_as_gray_as_in_pillow() {
        // Image.new("RGB", (1, 1), colour).convert("L")
        for (colour, gray) in [
            ([255, 90, 0], 129),
            ([255, 86, 0], 127),
            ([0, 0, 255], 29),
            ([0, 255, 0], 150),
            ([128, 128, 128], 128),
            ([255, 255, 255], 255),
        ] {
            assert_eq!(luma(Rgb(colour)), gray, "{colour:?}");
        }
    }

    #[test]
    fn a_preview_is_a_few_kilobytes() {
        let large = preview_of(64, 64);
        assert!(large.starts_with("data:image/jpeg;base64,/9j/"));
        assert!(large.len() < 10_000, "{} bytes of pure noise", large.len());
        let small = preview_of(8, 8);
        assert!(small.len() < 1_500, "{} bytes", small.len());
    }
}
