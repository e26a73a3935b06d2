//! The autoencoder between pictures `[batch, 3, h, w]` and latents `[batch, channels, h/8, w/8]`.

use tch::{Kind, Tensor};

use super::Weights;
use super::attention::{Attention, AttentionShape, DIFFUSERS};
use super::layers::{Convolution, GroupNorm, Kernel};
use super::resnet::{Norms, ResnetBlock};
use crate::error::Error;
use crate::manifest::VaeSpec;

const COLOURS: i64 = 3;

const NORM_EPSILON: f64 = 1e-6;

/// Bounds of the logarithm of a latent's variance, as in diffusers.
const LOG_VARIANCE: (f64, f64) = (-30.0, 20.0);

pub(crate) struct Autoencoder {
    encoder: Encoder,
    decoder: Decoder,
    scaling: Scaling,
}

/// Between the autoencoder's latents and those of mean 0 and deviation 1.
#[derive(Debug, Clone, Copy)]
struct Scaling {
    factor: f64,
    shift: f64,
}

impl Scaling {
    fn apply(self, latents: Tensor) -> Tensor {
        (latents - self.shift) * self.factor
    }

    fn revert(self, latents: &Tensor) -> Tensor {
        latents / self.factor + self.shift
    }
}

impl Autoencoder {
    /// Returns the network's name of a stored tensor. Attention has an old and a new naming.
    pub(crate) fn rename(stored: &str) -> String {
        let renamed = || {
            let (block, layer) = stored.split_once(".mid_block.attentions.0.")?;
            let (layer, parameter) = layer.rsplit_once('.')?;
            let layer = match layer {
                "query" => "to_q",
                "key" => "to_k",
                "value" => "to_v",
                "proj_attn" => "to_out.0",
                other => other,
            };
            Some(format!(
                "{block}.mid_block.attentions.0.{layer}.{parameter}"
            ))
        };
        renamed().unwrap_or_else(|| stored.to_owned())
    }

    pub(crate) fn new(weights: &Weights<'_>, spec: &VaeSpec) -> Result<Self, Error> {
        Ok(Self {
            encoder: Encoder::new(weights, spec)?,
            decoder: Decoder::new(weights, spec)?,
            scaling: Scaling {
                factor: spec.scaling_factor,
                shift: spec.shift_factor,
            },
        })
    }

    /// Encodes a picture in −1…1 to a distribution of latents.
    pub(crate) fn encode(&self, picture: &Tensor) -> Encoded {
        let moments = self.encoder.forward(picture);
        let channels = moments.size()[1] / 2;
        let (low, high) = LOG_VARIANCE;
        let log_variance = moments.narrow(1, channels, channels).clamp(low, high);
        Encoded {
            mean: moments.narrow(1, 0, channels),
            deviation: (log_variance * 0.5).exp(),
            scaling: self.scaling,
        }
    }

    /// Decodes scaled latents to a picture in −1…1, sometimes slightly beyond.
    pub(crate) fn decode(&self, latents: &Tensor) -> Tensor {
        self.decoder.forward(&self.scaling.revert(latents))
    }
}

/// The encoder's result: a distribution of latents.
pub(crate) struct Encoded {
    mean: Tensor,
    deviation: Tensor,
    scaling: Scaling,
}

impl Encoded {
    /// Draws scaled latents from torch's global generator.
    pub(crate) fn sample(&self) -> Tensor {
        let noise = Tensor::randn(self.mean.size(), (Kind::Float, self.mean.device()));
        self.scaling.apply(&self.mean + &self.deviation * noise)
    }
}

struct Encoder {
    conv_in: Convolution,
    down: Vec<DownBlock>,
    middle: MiddleBlock,
    norm_out: GroupNorm,
    conv_out: Convolution,
    /// None in FLUX.1, as the decoder's.
    moments: Option<Convolution>,
}

impl Encoder {
    fn new(weights: &Weights<'_>, spec: &VaeSpec) -> Result<Self, Error> {
        let encoder = weights.at("encoder");
        let channels = &spec.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        // Mean and logarithm of the variance.
        let moments = 2 * spec.latent_channels;
        let down = (0..channels.len())
            .map(|level| DownBlock::new(&encoder.at("down_blocks").at(level), spec, level));
        Ok(Self {
            conv_in: Convolution::new(&encoder.at("conv_in"), COLOURS, first, Kernel::SAME)?,
            down: down.collect::<Result<_, _>>()?,
            middle: MiddleBlock::new(&encoder.at("mid_block"), spec, last)?,
            norm_out: norms(spec).of(&encoder.at("conv_norm_out"), last)?,
            conv_out: Convolution::new(&encoder.at("conv_out"), last, moments, Kernel::SAME)?,
            moments: quant_conv(weights, "quant_conv", spec, moments)?,
        })
    }

    fn forward(&self, picture: &Tensor) -> Tensor {
        let hidden = self.conv_in.forward(picture);
        let hidden = self
            .down
            .iter()
            .fold(hidden, |hidden, block| block.forward(hidden));
        let hidden = self.middle.forward(&hidden);
        let hidden = self
            .conv_out
            .forward(&self.norm_out.forward(&hidden).silu());
        match &self.moments {
            Some(moments) => moments.forward(&hidden),
            None => hidden,
        }
    }
}

struct Decoder {
    latents: Option<Convolution>,
    conv_in: Convolution,
    middle: MiddleBlock,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Convolution,
}

impl Decoder {
    fn new(weights: &Weights<'_>, spec: &VaeSpec) -> Result<Self, Error> {
        let decoder = weights.at("decoder");
        let channels = &spec.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let width = spec.latent_channels;
        let up = (0..channels.len()).map(|block| {
            let level = channels.len() - 1 - block;
            UpBlock::new(&decoder.at("up_blocks").at(block), spec, level)
        });
        Ok(Self {
            latents: quant_conv(weights, "post_quant_conv", spec, width)?,
            conv_in: Convolution::new(&decoder.at("conv_in"), width, last, Kernel::SAME)?,
            middle: MiddleBlock::new(&decoder.at("mid_block"), spec, last)?,
            up: up.collect::<Result<_, _>>()?,
            norm_out: norms(spec).of(&decoder.at("conv_norm_out"), first)?,
            conv_out: Convolution::new(&decoder.at("conv_out"), first, COLOURS, Kernel::SAME)?,
        })
    }

    fn forward(&self, latents: &Tensor) -> Tensor {
        let hidden = match &self.latents {
            Some(convolution) => self.conv_in.forward(&convolution.forward(latents)),
            None => self.conv_in.forward(latents),
        };
        let hidden = self.middle.forward(&hidden);
        let hidden = self
            .up
            .iter()
            .fold(hidden, |hidden, block| block.forward(hidden));
        self.conv_out
            .forward(&self.norm_out.forward(&hidden).silu())
    }
}

/// Builds a convolution next to the latents, if the network has it.
fn quant_conv(
    weights: &Weights<'_>,
    name: &str,
    spec: &VaeSpec,
    channels: i64,
) -> Result<Option<Convolution>, Error> {
    let build = || Convolution::new(&weights.at(name), channels, channels, Kernel::POINT);
    spec.quant_convs.then(build).transpose()
}

fn norms(spec: &VaeSpec) -> Norms {
    Norms {
        groups: spec.norm_groups,
        epsilon: NORM_EPSILON,
    }
}

/// Builds the `count` residual blocks of a level.
fn resnets(
    weights: &Weights<'_>,
    spec: &VaeSpec,
    count: usize,
    (from, to): (i64, i64),
) -> Result<Vec<ResnetBlock>, Error> {
    let resnet = |index| {
        let inputs = if index == 0 { from } else { to };
        ResnetBlock::new(
            &weights.at("resnets").at(index),
            inputs,
            to,
            norms(spec),
            None,
        )
    };
    (0..count).map(resnet).collect()
}

fn through(resnets: &[ResnetBlock], hidden: Tensor) -> Tensor {
    resnets
        .iter()
        .fold(hidden, |hidden, resnet| resnet.forward(&hidden, None))
}

struct DownBlock {
    resnets: Vec<ResnetBlock>,
    /// None on the last level.
    downsampler: Option<Convolution>,
}

impl DownBlock {
    fn new(weights: &Weights<'_>, spec: &VaeSpec, level: usize) -> Result<Self, Error> {
        let channels = &spec.block_out_channels;
        let (from, to) = (channels[level.saturating_sub(1)], channels[level]);
        let halving = Kernel {
            padding: 0,
            ..Kernel::HALVING
        };
        let downsampler = (level + 1 < channels.len())
            .then(|| Convolution::new(&weights.at("downsamplers.0.conv"), to, to, halving));
        Ok(Self {
            resnets: resnets(weights, spec, spec.layers_per_block, (from, to))?,
            downsampler: downsampler.transpose()?,
        })
    }

    fn forward(&self, hidden: Tensor) -> Tensor {
        let hidden = through(&self.resnets, hidden);
        match &self.downsampler {
            // Padded to the right and below only, as in the original.
            Some(downsampler) => downsampler.forward(&hidden.constant_pad_nd([0, 1, 0, 1])),
            None => hidden,
        }
    }
}

/// Two residual blocks around an attention, at the lowest resolution.
struct MiddleBlock {
    before: ResnetBlock,
    norm: GroupNorm,
    attention: Attention,
    after: ResnetBlock,
}

impl MiddleBlock {
    fn new(weights: &Weights<'_>, spec: &VaeSpec, channels: i64) -> Result<Self, Error> {
        let resnet =
            |name| ResnetBlock::new(&weights.at(name), channels, channels, norms(spec), None);
        let attention = weights.at("attentions.0");
        let shape = AttentionShape {
            width: channels,
            context_width: channels,
            heads: 1,
        };
        Ok(Self {
            before: resnet("resnets.0")?,
            norm: norms(spec).of(&attention.at("group_norm"), channels)?,
            attention: Attention::new(&attention, &DIFFUSERS, shape)?,
            after: resnet("resnets.1")?,
        })
    }

    fn forward(&self, hidden: &Tensor) -> Tensor {
        let hidden = self.before.forward(hidden, None);
        let height = hidden.size()[2];
        let states = self.norm.forward(&hidden).flatten(2, 3).transpose(1, 2);
        let mixed = self.attention.forward(&states, &states);
        let mixed = mixed.transpose(1, 2).unflatten(2, [height, -1]);
        self.after.forward(&(hidden + mixed), None)
    }
}

struct UpBlock {
    resnets: Vec<ResnetBlock>,
    /// None on level 0.
    upsampler: Option<Convolution>,
}

impl UpBlock {
    fn new(weights: &Weights<'_>, spec: &VaeSpec, level: usize) -> Result<Self, Error> {
        let channels = &spec.block_out_channels;
        let to = channels[level];
        let from = channels[(level + 1).min(channels.len() - 1)];
        let upsampler = (level > 0)
            .then(|| Convolution::new(&weights.at("upsamplers.0.conv"), to, to, Kernel::SAME));
        Ok(Self {
            resnets: resnets(weights, spec, spec.layers_per_block + 1, (from, to))?,
            upsampler: upsampler.transpose()?,
        })
    }

    fn forward(&self, hidden: Tensor) -> Tensor {
        let hidden = through(&self.resnets, hidden);
        match &self.upsampler {
            Some(upsampler) => {
                let size: Vec<i64> = hidden.size()[2..].iter().map(|side| 2 * side).collect();
                upsampler.forward(&hidden.upsample_nearest2d(size, None, None))
            }
            None => hidden,
        }
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
        assert_eq!((rename(new), rename(old)), (new.to_owned(), new.to_owned()));
        let (new, old) = (
            "encoder.mid_block.attentions.0.to_q.weight",
            "encoder.mid_block.attentions.0.query.weight",
        );
        assert_eq!((rename(new), rename(old)), (new.to_owned(), new.to_owned()));
        for kept in [
            "encoder.mid_block.attentions.0.group_norm.bias",
            "decoder.conv_in.weight",
        ] {
            assert_eq!(rename(kept), kept);
        }
    }
}
