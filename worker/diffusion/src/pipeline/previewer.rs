//! Cheap previews: a colour per latent cell.
//!
//! A decoder's colours are almost linear in its latents where a picture is flat. So the first
//! preview decodes flat latents, one standard deviation up or down in each channel, in twice as
//! many combinations as there are channels. The linear map from channels to 3 colours that fits
//! them best costs less than a thousandth of a decoding, and suits each model's own decoder.

use tch::{Kind, Tensor};

use crate::networks::Autoencoder;

/// Longest side of a preview, pixels.
const MAX_SIDE: i64 = 64;

/// Side of the flat latents, cells.
const SIDE: i64 = 4;

/// A linear approximation of a decoder.
pub(super) struct Previewer {
    /// `[3, channels, 1, 1]`
    gains: Tensor,
    /// `[3]`
    base: Tensor,
}

impl Previewer {
    /// Fits the approximation of a decoder, on its device.
    pub(super) fn of(autoencoder: &Autoencoder, channels: i64, device: tch::Device) -> Previewer {
        let flat = design(channels.unsigned_abs()).to_device(device);
        let latents = flat
            .view([-1, channels, 1, 1])
            .expand([-1, -1, SIDE, SIDE], false)
            .contiguous();
        let pictures = autoencoder.decode(&latents);
        // [combinations, 3]
        let colours = pictures.mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        let count = colours.size()[0] as f64;
        // Least squares: the channels are orthogonal.
        let gains = colours.transpose(0, 1).matmul(&flat) / count;
        Previewer {
            gains: gains.view([3, channels, 1, 1]),
            base: colours.mean_dim([0i64].as_slice(), false, Kind::Float),
        }
    }

    /// Latents `[1, channels, h/8, w/8]` → a small picture in −1…1, `[1, 3, ≤ 64, ≤ 64]`.
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

/// Returns combinations of −1 and 1 for channels, `[combinations, channels]`: rows of a Hadamard
/// matrix. Channels are orthogonal to each other and, since each has a number of odd parity, to
/// the product of any two.
fn design(channels: u64) -> Tensor {
    let combinations = (2 * channels).next_power_of_two();
    let sign = |bits: u64| {
        if bits.count_ones().is_multiple_of(2) {
            1.0f32
        } else {
            -1.0
        }
    };
    let numbers = (1..combinations).filter(|number| sign(*number) < 0.0);
    let numbers: Vec<u64> = numbers.take(channels as usize).collect();
    let signs: Vec<f32> = (0..combinations)
        .flat_map(|row| numbers.iter().map(move |number| sign(row & number)))
        .collect();
    Tensor::from_slice(&signs).view([-1, channels.cast_signed()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_are_balanced_and_orthogonal() {
        for channels in [4, 16] {
            let design = design(channels);
            let count = 2 * channels.cast_signed();
            assert_eq!(design.size(), [count, channels.cast_signed()]);
            let products = design.transpose(0, 1).matmul(&design);
            let options = (Kind::Float, tch::Device::Cpu);
            let diagonal = Tensor::eye(channels.cast_signed(), options) * count as f64;
            assert_eq!(products, diagonal);
            assert_eq!(design.sum(Kind::Float).double_value(&[]), 0.0);
        }
    }
}
