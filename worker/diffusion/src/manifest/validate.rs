//! Checks the consistency of a manifest.

use super::{FILE, Manifest};
use crate::error::Error;
use crate::folder::stays_inside;

/// Whether a rule holds, and the error if it does not.
type Rule = (bool, &'static str);

/// Checks the consistency of the numbers. Rejects what the networks would otherwise assert, or
/// allocate without bound; `checkpoint` checks them against the weights.
pub(super) fn validate(manifest: &Manifest) -> Result<(), Error> {
    let rules = [
        tokenizer_rules(manifest),
        text_rules(manifest),
        unet_rules(manifest),
        vae_rules(manifest),
        image_rules(manifest),
        request_rules(manifest),
    ];
    match rules.into_iter().flatten().find(|(holds, _)| !holds) {
        Some((_, broken)) => Err(manifest.bad(FILE, broken)),
        None => Ok(()),
    }
}

/// Rules of the format and the tokenizer.
fn tokenizer_rules(manifest: &Manifest) -> Vec<Rule> {
    vec![
        (manifest.schema == 1, "schema: only 1 is known"),
        (
            manifest.tokenizer.kind == "clip-bpe",
            "tokenizer.kind: only clip-bpe is known",
        ),
        (
            (3..=1024).contains(&manifest.tokenizer.context),
            "tokenizer.context: not in 3..=1024",
        ),
    ]
}

/// Rules of the text transformer.
fn text_rules(manifest: &Manifest) -> Vec<Rule> {
    let text = &manifest.text;
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
fn unet_rules(manifest: &Manifest) -> Vec<Rule> {
    let (unet, text) = (&manifest.unet, &manifest.text);
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
fn vae_rules(manifest: &Manifest) -> Vec<Rule> {
    let vae = &manifest.vae;
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
fn image_rules(manifest: &Manifest) -> Vec<Rule> {
    let (image, cell) = (&manifest.image, manifest.vae.downsampling());
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
fn request_rules(manifest: &Manifest) -> Vec<Rule> {
    vec![
        (
            manifest
                .scheduler
                .allowed
                .contains(&manifest.scheduler.default),
            "scheduler.default is not among scheduler.allowed",
        ),
        (
            0.0 < manifest.scheduler.beta_start
                && manifest.scheduler.beta_start <= manifest.scheduler.beta_end
                && manifest.scheduler.beta_end < 1.0,
            "scheduler: not 0 < beta_start <= beta_end < 1",
        ),
        (
            manifest.scheduler.steps_offset <= 1,
            "scheduler.steps_offset: neither 0 nor 1",
        ),
        (
            manifest
                .scheduler
                .default
                .steps()
                .contains(&manifest.defaults.steps),
            "defaults.steps: not within the default scheduler's limits",
        ),
        (
            manifest.defaults.guidance.is_finite(),
            "defaults.guidance: not a number",
        ),
        (
            manifest.files.iter().all(|entry| stays_inside(&entry.path)),
            "files: a path leads out of the folder",
        ),
    ]
}

fn divides(divisor: i64, n: i64) -> bool {
    divisor > 0 && n > 0 && n % divisor == 0
}
