//! The picture that a request starts from, and its mask.

use tch::{Kind, Tensor};

use crate::networks::Encoded;
use crate::noise;
use crate::request::{Plan, Request};

use super::Pipeline;

/// The encoded picture to start from.
#[derive(Debug)]
pub struct Start {
    /// Scaled latents of the picture: `[1, channels, h/8, w/8]`.
    pub latents: Tensor,
    /// 1 for the latent cells that are redrawn, 0 for those that stay: `[1, 1, h/8, w/8]`. Without
    /// it the whole picture is redrawn.
    pub mask: Option<Tensor>,
    /// As `latents`, of the picture without what is redrawn: for UNets that take a mask.
    pub masked: Option<Tensor>,
}

/// As [`Start`], before latents are drawn from the encoder's distributions.
pub(super) struct EncodedStart {
    picture: Encoded,
    mask: Option<Tensor>,
    masked: Option<Encoded>,
}

impl EncodedStart {
    /// Encodes the picture and the mask of a request, if it has a picture.
    pub(super) fn of(pipeline: &Pipeline, request: &Request, plan: &Plan) -> Option<Self> {
        let picture = request.image.as_ref()?;
        let picture = picture.to_be_encoded(plan.width, plan.height);
        // [1, 1, height, width]
        let mask =
            (request.mask.as_ref()).map(|mask| mask.to_zeros_and_ones(plan.width, plan.height));
        let masked = mask
            .as_ref()
            .filter(|_| pipeline.manifest.networks.takes_mask())
            .map(|mask| pipeline.encoded(&(&picture * (1.0 - mask))));
        let cell = i64::from(pipeline.manifest.vae.downsampling());
        let cells = [i64::from(plan.height) / cell, i64::from(plan.width) / cell];
        let in_cells = |mask: Tensor| {
            let mask = mask.upsample_nearest2d(cells, None, None);
            mask.to_device(pipeline.device.torch())
        };
        Some(Self {
            picture: pipeline.encoded(&picture),
            mask: mask.map(in_cells),
            masked,
        })
    }

    /// Draws latents from the encoder's distributions.
    pub(super) fn sampled(&self, seed: u64) -> Start {
        Start {
            latents: sampled(&self.picture, seed),
            mask: self.mask.as_ref().map(Tensor::shallow_clone),
            masked: self.masked.as_ref().map(|masked| sampled(masked, seed)),
        }
    }
}

impl Start {
    /// Returns what an inpainting UNet gets beside the latents: `[1, 5, h/8, w/8]`.
    pub(super) fn conditions(&self) -> Option<Tensor> {
        let (mask, masked) = self.mask.as_ref().zip(self.masked.as_ref())?;
        Some(Tensor::cat(&[mask, masked], 1).to_kind(Kind::Float))
    }

    /// Replaces by `kept` what is not redrawn, unless the UNet itself keeps it.
    pub(super) fn keep(&self, latents: Tensor, kept: impl FnOnce() -> Tensor) -> Tensor {
        match &self.mask {
            Some(mask) if self.masked.is_none() => latents * mask + kept() * (1.0 - mask),
            _ => latents,
        }
    }
}

/// Draws latents from the encoder's distribution.
pub(super) fn sampled(encoded: &Encoded, seed: u64) -> Tensor {
    noise::reproducibly(seed, noise::ENCODING, || encoded.sample())
}
