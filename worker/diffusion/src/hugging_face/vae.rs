//! The config of an autoencoder.

use serde::Deserialize;

use super::allowed;
use super::folder::Folder;
use crate::error::Error;
use crate::manifest::VaeSpec;

/// diffusers' AutoencoderKL.
#[derive(Deserialize)]
#[serde(default)]
struct VaeConfig {
    block_out_channels: Vec<i64>,
    layers_per_block: usize,
    norm_num_groups: i64,
    latent_channels: i64,
    scaling_factor: f64,
    shift_factor: Option<f64>,
    use_quant_conv: bool,
    use_post_quant_conv: bool,
}

impl Default for VaeConfig {
    fn default() -> VaeConfig {
        VaeConfig {
            block_out_channels: vec![64],
            layers_per_block: 1,
            norm_num_groups: 32,
            latent_channels: 4,
            scaling_factor: 0.18215,
            shift_factor: None,
            use_quant_conv: true,
            use_post_quant_conv: true,
        }
    }
}

impl VaeConfig {
    fn spec(self) -> VaeSpec {
        VaeSpec {
            block_out_channels: self.block_out_channels,
            layers_per_block: self.layers_per_block,
            norm_groups: self.norm_num_groups,
            latent_channels: self.latent_channels,
            scaling_factor: self.scaling_factor,
            shift_factor: self.shift_factor.unwrap_or(0.0),
            quant_convs: self.use_quant_conv && self.use_post_quant_conv,
        }
    }
}

/// Reads the autoencoder's config.
pub(super) fn vae(folder: Folder<'_>) -> Result<VaeSpec, Error> {
    let config: VaeConfig = folder.config("vae/config.json", allowed::vae)?;
    Ok(config.spec())
}
