//! The autoencoder between pictures `[batch, 3, h, w]` and latents `[batch, 4, h/8, w/8]`.

use diffusers::models::vae::{AutoEncoderKL, AutoEncoderKLConfig, DiagonalGaussianDistribution};
use tch::Tensor;
use tch::nn::Path;

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::manifest::VaeSpec;

const COLOURS: i64 = 3;

pub(crate) struct Autoencoder {
    network: AutoEncoderKL,
    scaling_factor: f64,
}

impl Autoencoder {
    /// Returns the network's name of a stored tensor. Attention has an old and a new naming.
    pub(crate) fn rename(stored: &str) -> String {
        let renamed = || {
            let (block, layer) = stored.split_once(".mid_block.attentions.0.")?;
            let (layer, parameter) = layer.rsplit_once('.')?;
            let layer = match layer {
                "to_q" => "query",
                "to_k" => "key",
                "to_v" => "value",
                "to_out.0" => "proj_attn",
                other => other,
            };
            Some(format!(
                "{block}.mid_block.attentions.0.{layer}.{parameter}"
            ))
        };
        renamed().unwrap_or_else(|| stored.to_owned())
    }

    /// Checks the tensors that determine the network's size, before anything is allocated.
    pub(crate) fn check(spec: &VaeSpec, weights: &Checkpoint) -> Result<(), Error> {
        let blocks = spec.block_out_channels.len();
        for (i, &channels) in spec.block_out_channels.iter().enumerate() {
            let square = [channels, channels, 3, 3];
            for layer in 0..spec.layers_per_block {
                weights.expect(
                    &format!("encoder.down_blocks.{i}.resnets.{layer}.conv2.weight"),
                    &square,
                )?;
            }
            for layer in 0..=spec.layers_per_block {
                let up = blocks - 1 - i;
                weights.expect(
                    &format!("decoder.up_blocks.{up}.resnets.{layer}.conv2.weight"),
                    &square,
                )?;
            }
        }
        Ok(())
    }

    pub(crate) fn new(root: Path, spec: &VaeSpec) -> Autoencoder {
        let config = AutoEncoderKLConfig {
            block_out_channels: spec.block_out_channels.clone(),
            layers_per_block: spec.layers_per_block as i64,
            latent_channels: spec.latent_channels,
            norm_num_groups: spec.norm_groups,
        };
        Autoencoder {
            network: AutoEncoderKL::new(root, COLOURS, COLOURS, config),
            scaling_factor: spec.scaling_factor,
        }
    }

    /// Encodes a picture in −1…1 to a distribution of latents.
    pub(crate) fn encode(&self, picture: &Tensor) -> Encoded {
        Encoded {
            distribution: self.network.encode(picture),
            scaling_factor: self.scaling_factor,
        }
    }

    /// Decodes scaled latents to a picture in −1…1, sometimes slightly beyond.
    pub(crate) fn decode(&self, latents: &Tensor) -> Tensor {
        self.network.decode(&(latents / self.scaling_factor))
    }
}

/// The encoder's result: a distribution of latents.
pub(crate) struct Encoded {
    distribution: DiagonalGaussianDistribution,
    scaling_factor: f64,
}

impl Encoded {
    /// Draws scaled latents from torch's global generator.
    pub(crate) fn sample(&self) -> Tensor {
        self.distribution.sample() * self.scaling_factor
    }
}

#[cfg(test)]
mod tests {
    use super::Autoencoder;

    #[test]
    fn both_namings_of_attention_are_read() {
        let rename = Autoencoder::rename;
        let (new, old) = (
            "decoder.mid_block.attentions.0.to_out.0.bias",
            "decoder.mid_block.attentions.0.proj_attn.bias",
        );
        assert_eq!((rename(new), rename(old)), (old.to_owned(), old.to_owned()));
        let (new, old) = (
            "encoder.mid_block.attentions.0.to_q.weight",
            "encoder.mid_block.attentions.0.query.weight",
        );
        assert_eq!((rename(new), rename(old)), (old.to_owned(), old.to_owned()));
        for kept in [
            "encoder.mid_block.attentions.0.group_norm.bias",
            "decoder.conv_in.weight",
        ] {
            assert_eq!(rename(kept), kept);
        }
    }
}
