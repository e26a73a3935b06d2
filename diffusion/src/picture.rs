//! The finished product.

use tch::{Kind, Tensor};

use crate::error::Error;

/// A picture, eight bits a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Red, green, blue; row by row from the top left; `3 × width × height` bytes.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// From what a VAE decodes: `[1, 3, height, width]` in −1…1.
    pub(crate) fn from_decoded(decoded: &Tensor) -> Result<Picture, Error> {
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
}
