//! The denoising UNet: latents `[batch, 4 or 9, h/8, w/8]`, a timestep and text states `[batch,
//! context, hidden]` → a prediction `[batch, 4, h/8, w/8]`.

use tch::{Kind, Tensor};

use super::Weights;
use super::embedding::Embedding;
use super::layers::{Convolution, GroupNorm, Kernel};
use super::resnet::{Norms, ResnetBlock};
use super::transformer::{SpatialTransformer, TransformerShape};
use crate::error::Error;
use crate::manifest::{AddedSpec, UNetSpec};

/// Channels of the prediction.
const LATENT_CHANNELS: i64 = 4;

/// Numbers about the picture's size that Stable Diffusion XL gets.
const SIZES: i64 = 6;

const NORMS: Norms = Norms {
    groups: 32,
    epsilon: 1e-5,
};

/// Width of the time's embedding, in units of the first block's channels.
const TIME_EXPANSION: i64 = 4;

/// Longest period of the timestep's sines (Vaswani et al., 2017).
const MAX_PERIOD: f64 = 10_000.0;

pub(crate) struct UNet {
    conv_in: Convolution,
    time: TimeEmbedding,
    added: Option<AddedEmbedding>,
    down: Vec<DownBlock>,
    middle: MiddleBlock,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Convolution,
}

impl UNet {
    pub(crate) fn new(weights: &Weights<'_>, spec: &UNetSpec) -> Result<Self, Error> {
        let channels = &spec.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let levels = Levels {
            spec,
            time_width: first * TIME_EXPANSION,
        };
        let down = (0..channels.len())
            .map(|level| DownBlock::new(&weights.at("down_blocks").at(level), levels, level));
        let up = (0..channels.len()).map(|block| {
            let level = channels.len() - 1 - block;
            UpBlock::new(&weights.at("up_blocks").at(block), levels, level)
        });
        Ok(Self {
            conv_in: Convolution::new(
                &weights.at("conv_in"),
                spec.in_channels,
                first,
                Kernel::SAME,
            )?,
            time: TimeEmbedding {
                waves: first,
                embedding: Embedding::new(&weights.at("time_embedding"), first, levels.time_width)?,
            },
            added: (spec.added)
                .map(|added| AddedEmbedding::new(weights, added, levels.time_width))
                .transpose()?,
            down: down.collect::<Result<_, _>>()?,
            middle: MiddleBlock::new(&weights.at("mid_block"), levels, last)?,
            up: up.collect::<Result<_, _>>()?,
            norm_out: NORMS.of(&weights.at("conv_norm_out"), first)?,
            conv_out: Convolution::new(
                &weights.at("conv_out"),
                first,
                LATENT_CHANNELS,
                Kernel::SAME,
            )?,
        })
    }

    /// `added`: for a UNet that was built with them.
    pub(crate) fn predict(
        &self,
        latents: &Tensor,
        timestep: f64,
        text: &Tensor,
        added: Option<&AddedConditions<'_>>,
    ) -> Tensor {
        let kind = self.conv_in.kind();
        let text = &text.to_kind(kind);
        let time = self.time.forward(timestep, latents.device(), kind);
        let time = match self.added.as_ref().zip(added) {
            // `[1, time_width]` + `[batch, time_width]`
            Some((embedding, conditions)) => time + embedding.forward(conditions, kind),
            None => time,
        };
        // The activation with which every block begins.
        let time = &time.silu();
        let mut hidden = self.conv_in.forward(&latents.to_kind(kind));
        let mut skips = vec![hidden.shallow_clone()];
        for block in &self.down {
            hidden = block.forward(hidden, time, text, &mut skips);
        }
        hidden = self.middle.forward(&hidden, time, text);
        for block in &self.up {
            hidden = block.forward(hidden, time, text, &mut skips);
        }
        self.conv_out
            .forward(&self.norm_out.forward(&hidden).silu())
    }
}

/// Conditions beside the text's states.
pub(crate) struct AddedConditions<'a> {
    /// Each prompt as a whole: `[batch, width]`.
    pub(crate) pooled: &'a Tensor,
    /// Numbers about the picture's size: `[6]`.
    pub(crate) sizes: Tensor,
}

/// Embeds a timestep.
struct TimeEmbedding {
    /// Number of sines and cosines.
    waves: i64,
    embedding: Embedding,
}

impl TimeEmbedding {
    /// Returns `[1, time_width]`.
    fn forward(&self, timestep: f64, device: tch::Device, kind: Kind) -> Tensor {
        let timestep = Tensor::from(timestep).to_device(device).view([1]);
        let waves = waves(&timestep, self.waves);
        self.embedding.forward(&waves.to_kind(kind))
    }
}

/// Embeds the pooled prompt and the picture's size.
struct AddedEmbedding {
    /// Sines and cosines of each number.
    waves: i64,
    embedding: Embedding,
}

impl AddedEmbedding {
    fn new(weights: &Weights<'_>, spec: AddedSpec, time_width: i64) -> Result<Self, Error> {
        let inputs = spec.pooled_width + SIZES * spec.time_width;
        Ok(Self {
            waves: spec.time_width,
            embedding: Embedding::new(&weights.at("add_embedding"), inputs, time_width)?,
        })
    }

    /// Returns `[batch, time_width]`.
    fn forward(&self, conditions: &AddedConditions<'_>, kind: Kind) -> Tensor {
        let AddedConditions { pooled, sizes } = conditions;
        let sizes = waves(sizes, self.waves).view([1, -1]);
        let sizes = sizes.expand([pooled.size()[0], -1], false);
        let input = Tensor::cat(&[pooled.to_kind(kind), sizes.to_kind(kind)], -1);
        self.embedding.forward(&input)
    }
}

/// Cosines and sines of many periods: numbers `[n]` → `[n, width]`.
fn waves(numbers: &Tensor, width: i64) -> Tensor {
    let half = width / 2;
    let index = Tensor::arange(half, (Kind::Float, numbers.device()));
    let frequencies = (index * (-MAX_PERIOD.ln() / half as f64)).exp();
    let angles = numbers.to_kind(Kind::Float).unsqueeze(-1) * frequencies;
    Tensor::cat(&[angles.cos(), angles.sin()], -1)
}

/// The shapes of all levels; level 0 has the resolution of the latents.
#[derive(Clone, Copy)]
struct Levels<'a> {
    spec: &'a UNetSpec,
    time_width: i64,
}

impl Levels<'_> {
    fn count(self) -> usize {
        self.spec.block_out_channels.len()
    }

    fn channels(self, level: usize) -> i64 {
        self.spec.block_out_channels[level]
    }

    fn resnet(self, weights: &Weights<'_>, from: i64, to: i64) -> Result<ResnetBlock, Error> {
        ResnetBlock::new(weights, from, to, NORMS, Some(self.time_width))
    }

    fn transformer(self, weights: &Weights<'_>, level: usize) -> Result<SpatialTransformer, Error> {
        let shape = TransformerShape {
            channels: self.channels(level),
            heads: self.spec.heads.of_block(level).unwrap_or(1),
            text_width: self.spec.cross_attention_dim,
            layers: self.spec.transformer_layers_of(level),
            linear_projection: self.spec.use_linear_projection,
        };
        SpatialTransformer::new(weights, shape)
    }
}

/// A residual block, and the transformer after it on levels that attend to the text.
struct Layer {
    resnet: ResnetBlock,
    transformer: Option<SpatialTransformer>,
}

impl Layer {
    fn new(
        block: &Weights<'_>,
        levels: Levels<'_>,
        (level, index): (usize, usize),
        inputs: i64,
    ) -> Result<Self, Error> {
        let resnet = block.at("resnets").at(index);
        let attends = levels.spec.attention_blocks[level];
        let transformer =
            attends.then(|| levels.transformer(&block.at("attentions").at(index), level));
        Ok(Self {
            resnet: levels.resnet(&resnet, inputs, levels.channels(level))?,
            transformer: transformer.transpose()?,
        })
    }

    fn forward(&self, input: &Tensor, time: &Tensor, text: &Tensor) -> Tensor {
        let hidden = self.resnet.forward(input, Some(time));
        match &self.transformer {
            Some(transformer) => transformer.forward(&hidden, text),
            None => hidden,
        }
    }
}

struct DownBlock {
    layers: Vec<Layer>,
    /// None on the last level.
    downsampler: Option<Convolution>,
}

impl DownBlock {
    fn new(weights: &Weights<'_>, levels: Levels<'_>, level: usize) -> Result<Self, Error> {
        let channels = levels.channels(level);
        let before = levels.channels(level.saturating_sub(1));
        let layers = (0..levels.spec.layers_per_block).map(|index| {
            let inputs = if index == 0 { before } else { channels };
            Layer::new(weights, levels, (level, index), inputs)
        });
        let downsampler = (level + 1 < levels.count()).then(|| {
            let weights = weights.at("downsamplers.0.conv");
            Convolution::new(&weights, channels, channels, Kernel::HALVING)
        });
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            downsampler: downsampler.transpose()?,
        })
    }

    /// Adds the states that the block of the same level on the way up concatenates.
    fn forward(
        &self,
        mut hidden: Tensor,
        time: &Tensor,
        text: &Tensor,
        skips: &mut Vec<Tensor>,
    ) -> Tensor {
        for layer in &self.layers {
            hidden = layer.forward(&hidden, time, text);
            skips.push(hidden.shallow_clone());
        }
        if let Some(downsampler) = &self.downsampler {
            hidden = downsampler.forward(&hidden);
            skips.push(hidden.shallow_clone());
        }
        hidden
    }
}

/// Two residual blocks around a transformer, at the lowest resolution.
struct MiddleBlock {
    before: ResnetBlock,
    transformer: SpatialTransformer,
    after: ResnetBlock,
}

impl MiddleBlock {
    fn new(weights: &Weights<'_>, levels: Levels<'_>, channels: i64) -> Result<Self, Error> {
        Ok(Self {
            before: levels.resnet(&weights.at("resnets.0"), channels, channels)?,
            transformer: levels.transformer(&weights.at("attentions.0"), levels.count() - 1)?,
            after: levels.resnet(&weights.at("resnets.1"), channels, channels)?,
        })
    }

    fn forward(&self, hidden: &Tensor, time: &Tensor, text: &Tensor) -> Tensor {
        let hidden = self.before.forward(hidden, Some(time));
        let hidden = self.transformer.forward(&hidden, text);
        self.after.forward(&hidden, Some(time))
    }
}

struct UpBlock {
    layers: Vec<Layer>,
    /// None on level 0.
    upsampler: Option<Convolution>,
}

impl UpBlock {
    fn new(weights: &Weights<'_>, levels: Levels<'_>, level: usize) -> Result<Self, Error> {
        let channels = levels.channels(level);
        let below = levels.channels((level + 1).min(levels.count() - 1));
        let above = levels.channels(level.saturating_sub(1));
        let last = levels.spec.layers_per_block;
        let layers = (0..=last).map(|index| {
            let hidden = if index == 0 { below } else { channels };
            // The last skip is the input of the level.
            let skip = if index == last { above } else { channels };
            Layer::new(weights, levels, (level, index), hidden + skip)
        });
        let upsampler = (level > 0).then(|| {
            let weights = weights.at("upsamplers.0.conv");
            Convolution::new(&weights, channels, channels, Kernel::SAME)
        });
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            upsampler: upsampler.transpose()?,
        })
    }

    /// Removes the skipped states that it concatenates.
    fn forward(
        &self,
        mut hidden: Tensor,
        time: &Tensor,
        text: &Tensor,
        skips: &mut Vec<Tensor>,
    ) -> Tensor {
        for layer in &self.layers {
            let input = match skips.pop() {
                Some(skip) => Tensor::cat(&[hidden, skip], 1),
                None => hidden,
            };
            hidden = layer.forward(&input, time, text);
        }
        if let (Some(upsampler), Some(next)) = (&self.upsampler, skips.last()) {
            // Twice the size, or one less for an odd side.
            let wider = hidden.upsample_nearest2d(&next.size()[2..], None, None);
            hidden = upsampler.forward(&wider);
        }
        hidden
    }
}
