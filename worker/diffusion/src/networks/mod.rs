//! The networks of Stable Diffusion and FLUX.1, built from the tensors of a checkpoint by name.
//!
//! | module | contents |
//! | --- | --- |
//! | `weights` | where a network gets its tensors |
//! | `layers` | linear, convolution, group norm, layer norm, RMS norm |
//! | `resident` | the weights of loaded networks, to move them between device and host memory |
//! | `branches` | LoRA: low-rank branches beside layers |
//! | `attention` | multi-head attention |
//! | `embedding` | two linear layers for a timestep and other conditions |
//! | `resnet`, `transformer` | the blocks of the UNet and the autoencoder |
//! | `unet`, `autoencoder`, `clip` | the networks of Stable Diffusion |
//! | `flux`, `t5` | the transformer and second text encoder of FLUX.1 |
//!
//! Building a network asks for each of its tensors once, with the expected shape. So the same code
//! checks a file's header without reading it, loads it, and lists the tensors of a shape for random
//! weights. A loaded network's tensors are filled after it is built, so building does not compute
//! with them. Tensors have Hugging Face's names.

mod attention;
mod autoencoder;
mod clip;
mod embedding;
mod flux;
mod layers;
mod lora_branches;
mod resident;
mod resnet;
mod t5;
mod transformer;
mod unet;
mod weights;

pub(crate) use autoencoder::{Autoencoder, Encoded};
pub(crate) use clip::{TextStates, TextTransformer};
pub(crate) use flux::{FluxPrompt, FluxTransformer};
pub(crate) use lora_branches::{Branch, Branches, Slot, Slots};
pub(crate) use resident::{Recorder, ResidentWeights};
pub(crate) use t5::{T5Encoder, TOKENS as T5_TOKENS};
pub(crate) use unet::{AddedConditions, UNet};
pub(crate) use weights::{Tensors, Weights};

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::error::Error;
    use crate::manifest::{Activation, Heads, TextSpec, UNetSpec};

    /// Tensors of small numbers that depend on their size alone.
    struct Ramps(Kind);

    impl Tensors for Ramps {
        fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
            let numbers: i64 = shape.iter().product();
            let ramp = Tensor::arange(numbers, (Kind::Float, Device::Cpu)) * 0.7;
            let centre = f64::from(u8::from(name.contains("norm") && name.ends_with("weight")));
            Ok((ramp.sin() * 0.05 + centre).view(shape).to_kind(self.0))
        }
    }

    fn prediction(kind: Kind) -> Tensor {
        let tensors = Ramps(kind);
        let weights = Weights::root(&tensors);
        let text = TextSpec {
            hidden_size: 32,
            layers: 2,
            heads: 4,
            intermediate_size: 64,
            activation: Activation::QuickGelu,
            projection: None,
            end_token: None,
        };
        let unet = UNetSpec {
            block_out_channels: vec![32, 64],
            attention_blocks: vec![true, false],
            layers_per_block: 1,
            heads: Heads::All(4),
            cross_attention_dim: 32,
            use_linear_projection: false,
            in_channels: 4,
            transformer_layers: None,
            added: None,
        };
        let text = TextTransformer::new(&weights, &text, 16, 7).unwrap();
        let unet = UNet::new(&weights, &unet).unwrap();
        let ids = Tensor::from_slice(&[1i64, 5, 2, 3, 3, 3, 3]).unsqueeze(0);
        let states = text.forward(&ids).last;
        let latents = Tensor::linspace(-1, 1, 4 * 5 * 6, (Kind::Float, Device::Cpu));
        unet.predict(&latents.view([1, 4, 5, 6]), 421.0, &states, None)
    }

    #[test]
    fn half_precision_weights_are_used_in_every_layer_and_give_about_the_same() {
        let single = prediction(Kind::Float);
        for kind in [Kind::Half, Kind::BFloat16] {
            let half = prediction(kind);
            assert_eq!(half.kind(), kind);
            let distance = (half.to_kind(Kind::Float) - &single).norm() / single.norm();
            assert!(distance.double_value(&[]) < 2e-2, "{kind:?}: {distance:?}");
        }
    }
}
