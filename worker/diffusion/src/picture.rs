//! RGB pixels, converted from and to the tensors of a VAE.

use image::RgbImage;
use image::imageops::{self, FilterType};
use tch::{Kind, Tensor};

use crate::error::Error;

/// A picture with eight bits per channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Red, green, blue; row by row from the top left; `3 × width × height` bytes.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Converts the output of a VAE: `[1, 3, height, width]` in −1…1.
    ///
    /// # Errors
    /// [`Error::NotFinite`], as a conversion would silently draw black.
    pub(crate) fn from_decoded(decoded: &Tensor) -> Result<Picture, Error> {
        if !bool::try_from(decoded.isfinite().all())? {
            return Err(Error::NotFinite);
        }
        let (_, _, height, width) = decoded.size4()?;
        let bytes = ((decoded + 1.0) * 127.5)
            .round()
            .clamp(0.0, 255.0)
            .to_kind(Kind::Uint8);
        let pixels = bytes
            .squeeze_dim(0)
            .permute([1, 2, 0])
            .contiguous()
            .view(-1);
        let side = |pixels: i64| u32::try_from(pixels).unwrap_or(0);
        Ok(Picture {
            width: side(width),
            height: side(height),
            rgb: Vec::try_from(pixels)?,
        })
    }

    /// Returns whether the number of bytes matches the sides, which are at least 1.
    pub(crate) fn is_whole(&self) -> bool {
        let bytes = 3 * u64::from(self.width) * u64::from(self.height);
        bytes > 0 && self.rgb.len() as u64 == bytes
    }

    /// Stretches the picture to `width` × `height`, as a VAE encodes it: `[1, 3, height, width]` in
    /// −1…1. The picture [is whole](Self::is_whole).
    pub(crate) fn to_be_encoded(&self, width: u32, height: u32) -> Tensor {
        let stretched = match RgbImage::from_raw(self.width, self.height, self.rgb.clone()) {
            Some(whole) if whole.dimensions() != (width, height) => {
                imageops::resize(&whole, width, height, FilterType::Lanczos3).into_raw()
            }
            _ => self.rgb.clone(),
        };
        Tensor::from_slice(&stretched)
            .view([i64::from(height), i64::from(width), 3])
            .permute([2, 0, 1])
            .unsqueeze(0)
            .to_kind(Kind::Float)
            / 127.5
            - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32) -> Picture {
        let rgb = (0..3 * width * height).map(|i| (i * 7 % 256) as u8);
        Picture {
            width,
            height,
            rgb: rgb.collect(),
        }
    }

    #[test]
    fn a_picture_survives_the_way_into_a_tensor_and_back() {
        let picture = picture(16, 8);
        let tensor = picture.to_be_encoded(16, 8);
        assert_eq!(tensor.size(), [1, 3, 8, 16]);
        assert_eq!(Picture::from_decoded(&tensor).unwrap(), picture);
    }

    #[test]
    fn a_stretched_picture_has_the_size_asked_for_and_the_same_colours() {
        let red = Picture {
            width: 3,
            height: 500,
            rgb: [200, 10, 30].repeat(1500),
        };
        let stretched = Picture::from_decoded(&red.to_be_encoded(64, 32)).unwrap();
        assert_eq!((stretched.width, stretched.height), (64, 32));
        assert!(stretched.rgb.chunks(3).all(|pixel| pixel == [200, 10, 30]));
    }

    #[test]
    fn numbers_that_are_not_finite_are_no_picture() {
        let sound = picture(16, 8).to_be_encoded(16, 8);
        for broken in [f64::NAN, f64::INFINITY] {
            let decoded = &sound + broken;
            assert!(matches!(
                Picture::from_decoded(&decoded),
                Err(Error::NotFinite)
            ));
        }
    }

    #[test]
    fn a_picture_with_bytes_missing_is_not_whole() {
        assert!(picture(4, 4).is_whole());
        let mut short = picture(4, 4);
        short.rgb.pop();
        assert!(!short.is_whole() && !picture(0, 4).is_whole());
    }
}
