//! Cheap previews: a colour per latent cell.
//!
//! A decoder's colours are almost linear in its latents where a picture is flat. So the first
//! preview decodes 16 flat latents: those one standard deviation up or down in each channel. The
//! linear map from 4 channels to 3 colours that fits them best costs less than a thousandth of a
//! decoding, and suits each model's own decoder.

use tch::{Kind, Tensor};

use crate::networks::Autoencoder;

/// Longest side of a preview, pixels.
const MAX_SIDE: i64 = 64;

/// Side of the flat latents, cells.
const SIDE: i64 = 4;

const CHANNELS: i64 = 4;

/// A linear approximation of a decoder.
pub(super) struct Previewer {
    /// `[3, 4, 1, 1]`
    gains: Tensor,
    /// `[3]`
    base: Tensor,
}

impl Previewer {
    /// Fits the approximation of a decoder, on its device.
    pub(super) fn of(autoencoder: &Autoencoder, device: tch::Device) -> Previewer {
        let either = Tensor::from_slice(&[-1.0f32, 1.0]).to_device(device);
        // [16, 4]
        let flat = Tensor::cartesian_prod(&[&either; CHANNELS as usize]);
        let latents = flat
            .view([-1, CHANNELS, 1, 1])
            .expand([-1, -1, SIDE, SIDE], false)
            .contiguous();
        let pictures = autoencoder.decode(&latents);
        // [16, 3]
        let colours = pictures.mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        let count = colours.size()[0] as f64;
        // Least squares: the 16 are orthogonal in each channel.
        let gains = colours.transpose(0, 1).matmul(&flat) / count;
        Previewer {
            gains: gains.view([3, CHANNELS, 1, 1]),
            base: colours.mean_dim([0i64].as_slice(), false, Kind::Float),
        }
    }

    /// Latents `[1, 4, h/8, w/8]` → a small picture in −1…1, `[1, 3, ≤ 64, ≤ 64]`.
    pub(super) fn draw(&self, latents: &Tensor) -> Tensor {
        let sides = latents.size();
        let (height, width) = (sides[2], sides[3]);
        let longest = height.max(width);
        let latents = if longest > MAX_SIDE {
            let shorter = |side: i64| (side * MAX_SIDE / longest).max(1);
            latents.adaptive_avg_pool2d([shorter(height), shorter(width)])
        } else {
            latents.shallow_clone()
        };
        latents.conv2d(&self.gains, Some(&self.base), 1, 0, 1, 1)
    }
}
