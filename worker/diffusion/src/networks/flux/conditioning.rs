//! The vector `[1, width]` on which all layer norms depend: the sum of embeddings of the timestep,
//! the guidance and the prompt's summary.

use tch::{Device, Kind, Tensor};

use super::super::Weights;
use super::super::embedding::Embedding;
use super::FluxPrompt;
use crate::error::Error;
use crate::manifest::FluxTransformerSpec;

/// Width of the embedded numbers' sines and cosines.
const WAVES: i64 = 256;

/// Longest period of the sines (Vaswani et al., 2017).
const MAX_PERIOD: f64 = 10_000.0;

/// Timesteps of the training; the guidance is scaled alike.
const TIMESTEPS: f32 = 1000.0;

pub(super) struct Conditioning {
    time: Embedding,
    /// None where the network has no guidance.
    guidance: Option<Embedding>,
    pooled: Embedding,
}

impl Conditioning {
    pub(super) fn new(
        weights: &Weights<'_>,
        spec: &FluxTransformerSpec,
        width: i64,
    ) -> Result<Self, Error> {
        let embedding = |name, inputs| Embedding::new(&weights.at(name), inputs, width);
        let guidance = (spec.guidance).then(|| embedding("guidance_embedder", WAVES));
        Ok(Self {
            time: embedding("timestep_embedder", WAVES)?,
            guidance: guidance.transpose()?,
            pooled: embedding("text_embedder", spec.pooled_width)?,
        })
    }

    /// Returns the vector after the activation that every layer norm applies.
    pub(super) fn forward(&self, timestep: f64, prompt: &FluxPrompt<'_>, kind: Kind) -> Tensor {
        let waves = |number| waves(number, prompt.pooled.device()).to_kind(kind);
        // Divided and multiplied as in diffusers, which rounds.
        let timestep = timestep as f32 / TIMESTEPS * TIMESTEPS;
        let mut sum = self.time.forward(&waves(timestep));
        if let Some(guidance) = &self.guidance {
            sum += guidance.forward(&waves(prompt.guidance as f32 * TIMESTEPS));
        }
        sum += self.pooled.forward(&prompt.pooled.to_kind(kind));
        sum.silu()
    }
}

/// Returns cosines and sines of a number, with many periods: `[1, WAVES]`.
fn waves(number: f32, device: Device) -> Tensor {
    let half = WAVES / 2;
    let index = Tensor::arange(half, (Kind::Float, device));
    let angles = (index * -MAX_PERIOD.ln() / half as f64).exp() * f64::from(number);
    Tensor::cat(&[angles.cos(), angles.sin()], 0).unsqueeze(0)
}
