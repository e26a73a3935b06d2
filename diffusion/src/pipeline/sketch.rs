//! Small previews of what is becoming, for next to nothing: a colour for each latent cell.
//!
//! A decoder's colours follow its latents all but linearly where a picture is flat. So it is asked
//! once, when the first preview is wanted, what flat latents look like: none, and one standard
//! deviation up and down in each channel. What lies between is a linear map from 4 channels to 3
//! colours, which costs less than a thousandth of a decoding, and holds for each model's own decoder.

use tch::{Kind, Tensor};

use crate::diffusers_rs::Autoencoder;

/// Longest side of a preview, in pixels.
const LONGEST_SIDE: i64 = 64;

/// Side of the flat latents that a decoder is asked about, in cells.
const SIDE: i64 = 4;

const CHANNELS: i64 = 4;

/// A decoder in short.
pub(super) struct Sketch {
    /// `[3, 4, 1, 1]`
    gains: Tensor,
    /// `[3]`
    base: Tensor,
}

impl Sketch {
    /// Of this decoder, on its device.
    pub(super) fn of(autoencoder: &Autoencoder, device: tch::Device) -> Sketch {
        let up = Tensor::eye(CHANNELS, (Kind::Float, device));
        let none = Tensor::zeros([1, CHANNELS], (Kind::Float, device));
        let flat = Tensor::cat(&[&none, &up, &-&up], 0).view([-1, CHANNELS, 1, 1]);
        let pictures = autoencoder.decode(&flat.expand([-1, -1, SIDE, SIDE], false).contiguous());
        let colours = pictures.mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        let of = |first, count| colours.narrow(0, first, count);
        let gains = (of(1, CHANNELS) - of(1 + CHANNELS, CHANNELS)) / 2.0;
        Sketch {
            gains: gains.transpose(0, 1).contiguous().view([3, CHANNELS, 1, 1]),
            base: of(0, 1).view([3]),
        }
    }

    /// Latents `[1, 4, h/8, w/8]` → a small picture in −1…1, `[1, 3, ≤ 64, ≤ 64]`.
    pub(super) fn draw(&self, latents: &Tensor) -> Tensor {
        let sides = latents.size();
        let (height, width) = (sides[2], sides[3]);
        let longest = height.max(width);
        let latents = if longest > LONGEST_SIDE {
            let shorter = |side: i64| (side * LONGEST_SIDE / longest).max(1);
            latents.adaptive_avg_pool2d([shorter(height), shorter(width)])
        } else {
            latents.shallow_clone()
        };
        latents.conv2d(&self.gains, Some(&self.base), 1, 0, 1, 1)
    }
}
