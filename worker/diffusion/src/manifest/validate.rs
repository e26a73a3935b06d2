//! Checks the consistency of a manifest.

use super::{FILE, Manifest};
use crate::error::Error;
use crate::folder::stays_inside;

/// Whether a rule holds, and the error if it does not.
type Rule = (bool, &'static str);

impl Manifest {
    /// Checks the consistency of the numbers. Rejects what the networks would otherwise assert, or
    /// allocate without bound; `checkpoint` checks them against the weights.
    pub(super) fn validate(&self) -> Result<(), Error> {
        let rules = [
            self.tokenizer_rules(),
            self.text_rules(),
            self.unet_rules(),
            self.vae_rules(),
            self.image_rules(),
            self.request_rules(),
        ];
        match rules.into_iter().flatten().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(self.bad(FILE, broken)),
            None => Ok(()),
        }
    }

    /// Rules of the format and the tokenizer.
    fn tokenizer_rules(&self) -> Vec<Rule> {
        vec![
            (self.schema == 1, "schema: only 1 is known"),
            (
                self.tokenizer.kind == "clip-bpe",
                "tokenizer.kind: only clip-bpe is known",
            ),
            (
                (3..=1024).contains(&self.tokenizer.context),
                "tokenizer.context: not in 3..=1024",
            ),
        ]
    }

    /// Rules of the text transformer.
    fn text_rules(&self) -> Vec<Rule> {
        let text = &self.text;
        vec![
            (
                divides(text.heads, text.hidden_size),
                "text.heads does not divide text.hidden_size",
            ),
            (
                (1..=1 << 14).contains(&text.hidden_size),
                "text.hidden_size: not in 1..=16384",
            ),
            (
                (1..=1 << 16).contains(&text.intermediate_size),
                "text.intermediate_size: not in 1..=65536",
            ),
            (
                (1..=128).contains(&text.layers),
                "text.layers: not in 1..=128",
            ),
        ]
    }

    /// Rules of the UNet.
    fn unet_rules(&self) -> Vec<Rule> {
        let (unet, text) = (&self.unet, &self.text);
        let heads_fit = |(index, channels): (usize, &i64)| {
            unet.heads
                .of_block(index)
                .is_some_and(|heads| divides(heads, *channels))
        };
        vec![
            (
                (1..=6).contains(&unet.block_out_channels.len()),
                "unet.block_out_channels: not 1 to 6 blocks",
            ),
            (
                unet.block_out_channels
                    .iter()
                    .all(|&c| divides(32, c) && c <= 1 << 13),
                "unet.block_out_channels: not multiples of 32 up to 8192",
            ),
            (
                unet.attention_blocks.len() == unet.block_out_channels.len(),
                "unet.attention_blocks: not one for each block",
            ),
            (
                unet.block_out_channels.iter().enumerate().all(heads_fit),
                "unet.heads does not divide unet.block_out_channels",
            ),
            (
                (1..=8).contains(&unet.layers_per_block),
                "unet.layers_per_block: not in 1..=8",
            ),
            (
                unet.cross_attention_dim == text.hidden_size,
                "unet.cross_attention_dim is not text.hidden_size",
            ),
        ]
    }

    /// Rules of the autoencoder.
    fn vae_rules(&self) -> Vec<Rule> {
        let vae = &self.vae;
        vec![
            (
                (1..=6).contains(&vae.block_out_channels.len()),
                "vae.block_out_channels: not 1 to 6 blocks",
            ),
            (
                vae.block_out_channels
                    .iter()
                    .all(|&c| divides(vae.norm_groups, c) && c <= 1 << 13),
                "vae.block_out_channels: not multiples of vae.norm_groups up to 8192",
            ),
            (
                (1..=8).contains(&vae.layers_per_block),
                "vae.layers_per_block: not in 1..=8",
            ),
            (
                vae.latent_channels == 4,
                "vae.latent_channels: only 4 is supported",
            ),
            (
                vae.scaling_factor.is_normal(),
                "vae.scaling_factor: not a number other than 0",
            ),
        ]
    }

    /// Rules of picture sizes.
    fn image_rules(&self) -> Vec<Rule> {
        let (image, cell) = (&self.image, self.vae.downsampling());
        vec![
            (
                image.multiple_of > 0 && image.multiple_of % cell == 0,
                "image.multiple_of: not a multiple of the VAE's downsampling",
            ),
            (
                image.min > 0
                    && image.min <= image.default
                    && image.default <= image.max
                    && image.max <= 1 << 13,
                "image: not 1 <= min <= default <= max <= 8192",
            ),
            (
                image.multiple_of > 0 && image.default % image.multiple_of == 0,
                "image.default: not a multiple of image.multiple_of",
            ),
        ]
    }

    /// Rules of schedulers, defaults and files.
    fn request_rules(&self) -> Vec<Rule> {
        vec![
            (
                self.scheduler.allowed.contains(&self.scheduler.default),
                "scheduler.default is not among scheduler.allowed",
            ),
            (
                0.0 < self.scheduler.beta_start
                    && self.scheduler.beta_start <= self.scheduler.beta_end
                    && self.scheduler.beta_end < 1.0,
                "scheduler: not 0 < beta_start <= beta_end < 1",
            ),
            (
                self.scheduler.steps_offset <= 1,
                "scheduler.steps_offset: neither 0 nor 1",
            ),
            (
                (self.scheduler.allowed.iter()).all(|&kind| self.scheduler.allows(kind)),
                "scheduler.allowed: kdpm2, kdpm2-a and lms have none of the other settings",
            ),
            (
                (1000..=10_000).contains(&self.scheduler.num_train_timesteps),
                "scheduler.num_train_timesteps: not in 1000..=10000",
            ),
            (
                (self.scheduler.trained_betas.as_ref()).is_none_or(|betas| {
                    betas.len() == self.scheduler.num_train_timesteps as usize
                        && betas.iter().all(|beta| (f64::EPSILON..1.0).contains(beta))
                }),
                "scheduler.trained_betas: not num_train_timesteps numbers between 0 and 1",
            ),
            (
                (1..=3).contains(&self.scheduler.solver_order),
                "scheduler.solver_order: not in 1..=3",
            ),
            (
                self.scheduler
                    .default
                    .steps()
                    .contains(&self.defaults.steps),
                "defaults.steps: not within the default scheduler's limits",
            ),
            (
                self.defaults.guidance.is_finite(),
                "defaults.guidance: not a number",
            ),
            (
                self.files.iter().all(|entry| stays_inside(&entry.path)),
                "files: a path leads out of the folder",
            ),
        ]
    }
}

fn divides(divisor: i64, n: i64) -> bool {
    divisor > 0 && n > 0 && n % divisor == 0
}
