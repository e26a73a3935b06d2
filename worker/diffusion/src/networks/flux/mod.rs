//! FLUX.1's transformer: latents `[1, 16, h/8, w/8]`, a timestep and a prompt → the velocity from
//! picture to noise, in the latents' shape.
//!
//! A multimodal diffusion transformer (Esser et al., 2024): the tokens of picture and text attend
//! to each other, first with weights for each, then with common ones. Black Forest Labs published
//! the architecture as code, without a paper.
//!
//! | module | contents |
//! | --- | --- |
//! | `patches` | between latents and tokens of 2 × 2 cells |
//! | `conditioning` | timestep, guidance and the prompt's summary → one vector |
//! | `modulation` | layer norms whose scale and shift depend on that vector |
//! | `rotary` | the positions of tokens |
//! | `attention` | joint attention |
//! | `double`, `single` | the two kinds of blocks |

mod attention;
mod conditioning;
mod double;
mod modulation;
mod patches;
mod rotary;
mod single;

use tch::Tensor;

use super::Weights;
use super::layers::Linear;
use crate::error::Error;
use crate::manifest::FluxTransformerSpec;
use conditioning::Conditioning;
use double::DoubleBlock;
use modulation::Modulation;
use rotary::Rotary;
use single::SingleBlock;

/// What the transformer draws.
pub(crate) struct FluxPrompt<'a> {
    /// Text states of T5: `[1, n, text_width]`.
    pub(crate) text: &'a Tensor,
    /// The prompt's summary by CLIP: `[1, pooled_width]`.
    pub(crate) pooled: &'a Tensor,
    /// Strength of the prompt; has no effect on a network without this input.
    pub(crate) guidance: f64,
}

pub(crate) struct FluxTransformer {
    enter: Linear,
    enter_text: Linear,
    conditioning: Conditioning,
    double: Vec<DoubleBlock>,
    single: Vec<SingleBlock>,
    modulation: Modulation,
    leave: Linear,
    rope_axes: [i64; 3],
}

impl FluxTransformer {
    pub(crate) fn new(weights: &Weights<'_>, spec: &FluxTransformerSpec) -> Result<Self, Error> {
        let shape = Shape {
            width: spec.heads * spec.head_size,
            heads: spec.heads,
        };
        let patch = spec.latent_channels * patches::CELLS;
        let (double, single) = (
            weights.at("transformer_blocks"),
            weights.at("single_transformer_blocks"),
        );
        Ok(Self {
            enter: Linear::new(&weights.at("x_embedder"), patch, shape.width)?,
            enter_text: Linear::new(
                &weights.at("context_embedder"),
                spec.text_width,
                shape.width,
            )?,
            conditioning: Conditioning::new(&weights.at("time_text_embed"), spec, shape.width)?,
            double: (0..spec.double_blocks)
                .map(|index| DoubleBlock::new(&double.at(index), shape))
                .collect::<Result<_, _>>()?,
            single: (0..spec.single_blocks)
                .map(|index| SingleBlock::new(&single.at(index), shape))
                .collect::<Result<_, _>>()?,
            modulation: Modulation::new(&weights.at("norm_out.linear"), shape.width, 2)?,
            leave: Linear::new(&weights.at("proj_out"), shape.width, patch)?,
            rope_axes: spec.rope_axes,
        })
    }

    /// Predicts the velocity of latents with even sides; `timestep`: 1000 · their noise level.
    pub(crate) fn predict(
        &self,
        latents: &Tensor,
        timestep: f64,
        prompt: &FluxPrompt<'_>,
    ) -> Tensor {
        let kind = self.enter.kind();
        let sides = patches::sides(latents);
        let conditioning = &self.conditioning.forward(timestep, prompt, kind);
        let mut picture = (self.enter).forward(&patches::pack(&latents.to_kind(kind)));
        let mut text = self.enter_text.forward(&prompt.text.to_kind(kind));
        let text_tokens = text.size()[1];
        let rotary = &Rotary::new(self.rope_axes, text_tokens, sides, latents.device());
        for block in &self.double {
            (picture, text) = block.forward(picture, text, conditioning, rotary);
        }
        let mut tokens = Tensor::cat(&[text, picture], 1);
        for block in &self.single {
            tokens = block.forward(tokens, conditioning, rotary);
        }
        let picture = tokens.narrow(1, text_tokens, tokens.size()[1] - text_tokens);
        // Other than in the blocks, the scale is stored before the shift.
        let [scale, shift] = self.modulation.parts(conditioning);
        let picture = modulation::modulated(&picture, &shift, &scale);
        patches::unpack(&self.leave.forward(&picture), sides)
    }
}

/// The shape of a block.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Width of a token's state.
    width: i64,
    heads: i64,
}

impl Shape {
    /// Width inside the feed-forward parts.
    fn inner(self) -> i64 {
        4 * self.width
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
