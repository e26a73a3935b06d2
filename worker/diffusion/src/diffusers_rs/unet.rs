//! The denoising UNet: latents `[batch, 4, h/8, w/8]`, a timestep and text states `[batch, context,
//! hidden]` → a prediction of the latents' shape. Parameters have Hugging Face's names.

use diffusers::models::unet_2d::{BlockConfig, UNet2DConditionModel, UNet2DConditionModelConfig};
use tch::Tensor;
use tch::nn::Path;

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::manifest::UNetSpec;

const LATENT_CHANNELS: i64 = 4;

pub(crate) struct UNet(UNet2DConditionModel);

impl UNet {
    /// Checks the tensors that determine the network's size, before anything is allocated.
    pub(crate) fn check(spec: &UNetSpec, weights: &Checkpoint) -> Result<(), Error> {
        let blocks = spec.block_out_channels.len();
        for (i, (&channels, &attends)) in spec
            .block_out_channels
            .iter()
            .zip(&spec.attention_blocks)
            .enumerate()
        {
            if i == 0 {
                weights.expect("conv_in.weight", &[channels, LATENT_CHANNELS, 3, 3])?;
            }
            let square = [channels, channels, 3, 3];
            for layer in 0..spec.layers_per_block {
                weights.expect(
                    &format!("down_blocks.{i}.resnets.{layer}.conv2.weight"),
                    &square,
                )?;
            }
            for layer in 0..=spec.layers_per_block {
                let up = blocks - 1 - i;
                weights.expect(
                    &format!("up_blocks.{up}.resnets.{layer}.conv2.weight"),
                    &square,
                )?;
            }
            if attends {
                let key =
                    format!("down_blocks.{i}.attentions.0.transformer_blocks.0.attn2.to_k.weight");
                weights.expect(&key, &[channels, spec.cross_attention_dim])?;
            }
        }
        Ok(())
    }

    pub(crate) fn new(root: Path, spec: &UNetSpec) -> UNet {
        let block = |(index, (&out_channels, &use_cross_attn))| BlockConfig {
            out_channels,
            use_cross_attn,
            // The number of heads, misnamed by Hugging Face.
            attention_head_dim: spec.heads.of_block(index).unwrap_or(1),
        };
        let blocks = spec
            .block_out_channels
            .iter()
            .zip(&spec.attention_blocks)
            .enumerate()
            .map(block);
        let config = UNet2DConditionModelConfig {
            blocks: blocks.collect(),
            layers_per_block: spec.layers_per_block as i64,
            cross_attention_dim: spec.cross_attention_dim,
            use_linear_projection: spec.use_linear_projection,
            ..UNet2DConditionModelConfig::default()
        };
        UNet(UNet2DConditionModel::new(
            root,
            LATENT_CHANNELS,
            LATENT_CHANNELS,
            config,
        ))
    }

    pub(crate) fn predict(&self, latents: &Tensor, timestep: f64, text: &Tensor) -> Tensor {
        self.0.forward(latents, timestep, text)
    }
}
