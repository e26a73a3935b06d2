//! Masks of inpainting: where a picture is redrawn.

use image::GrayImage;
use image::imageops::{self, FilterType};
use tch::{Kind, Tensor};

/// Where a picture is redrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Row by row from the top left: from 128 on, a pixel is redrawn; `width × height` bytes.
    pub luma: Vec<u8>,
}

impl Mask {
    /// Returns whether the number of bytes matches the sides, which are at least 1.
    pub(crate) fn is_whole(&self) -> bool {
        let bytes = u64::from(self.width) * u64::from(self.height);
        bytes > 0 && self.luma.len() as u64 == bytes
    }

    /// Stretches the mask to `width` × `height`: `[1, 1, height, width]`, 1 where the picture is
    /// redrawn and 0 elsewhere.
    pub(crate) fn to_zeros_and_ones(&self, width: u32, height: u32) -> Tensor {
        let stretched = match GrayImage::from_raw(self.width, self.height, self.luma.clone()) {
            Some(whole) if whole.dimensions() != (width, height) => {
                imageops::resize(&whole, width, height, FilterType::Lanczos3).into_raw()
            }
            _ => self.luma.clone(),
        };
        Tensor::from_slice(&stretched)
            .view([1, 1, i64::from(height), i64::from(width)])
            .ge(128)
            .to_kind(Kind::Float)
    }
}
