//! Small previews of what is becoming, for next to nothing: a colour for each latent cell.
//!
//! A decoder's colours follow its latents all but linearly where a picture is flat. So it is asked
//! once, when the first preview is wanted, what flat latents look like: those one standard deviation
//! up or down in each channel, 16 in all. The linear map from 4 channels to 3 colours that fits them
//! best costs less than a thousandth of a decoding, and holds for each model's own decoder.

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
        // The least squares: the 16 are orthogonal in each channel.
        let gains = colours.transpose(0, 1).matmul(&flat) / count;
        Sketch {
            gains: gains.view([3, CHANNELS, 1, 1]),
            base: colours.mean_dim([0i64].as_slice(), false, Kind::Float),
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
