//! Checks the consistency of a manifest.

use super::{FlowShift, Manifest, Networks, TextSpec, UNetSpec, flux};
use crate::folder::stays_inside;

/// Whether a rule holds, and the error if it does not.
pub(super) type Rule = (bool, &'static str);

/// Checks the consistency of the numbers. Rejects what the networks would otherwise assert, or
/// allocate without bound; `checkpoint` checks them against the weights.
///
/// # Errors
/// A sentence that begins with the key at fault.
pub(super) fn validate(manifest: &Manifest) -> Result<(), String> {
    let rules = [
        tokenizer_rules(manifest),
        text_transformer_rules(&manifest.text),
        network_rules(manifest),
        vae_rules(manifest),
        flow_rules(manifest),
        image_rules(manifest),
        request_rules(manifest),
    ];
    if let Some((_, broken)) = rules.into_iter().flatten().find(|(holds, _)| !holds) {
        return Err(broken.to_owned());
    }
    let Networks::Sdxl(spec) = &manifest.networks else {
        return Ok(());
    };
    let mut second = text_transformer_rules(&spec.text_2).into_iter();
    let broken = second.find(|(holds, _)| !holds);
    broken.map_or(
        Ok(()),
        |(_, broken)| Err(broken.replace("text.", "text_2.")),
    )
}

/// Returns the rules of the format and the tokenizer.
#[rustfmt::skip]
fn tokenizer_rules(manifest: &Manifest) -> Vec<Rule> {
    let tokenizer = &manifest.tokenizer;
    vec![
        (manifest.schema == 1, "schema: only 1 is known"),
        (tokenizer.kind == "clip-bpe", "tokenizer.kind: only clip-bpe is known"),
        ((3..=1024).contains(&tokenizer.context), "tokenizer.context: not in 3..=1024"),
    ]
}

/// Returns the rules of a text transformer, named as the first one.
#[rustfmt::skip]
fn text_transformer_rules(text: &TextSpec) -> Vec<Rule> {
    let (hidden, intermediate) = (text.hidden_size, text.intermediate_size);
    vec![
        (divides(text.heads, hidden), "text.heads does not divide text.hidden_size"),
        ((1..=1 << 14).contains(&hidden), "text.hidden_size: not in 1..=16384"),
        ((1..=1 << 16).contains(&intermediate), "text.intermediate_size: not in 1..=65536"),
        ((1..=128).contains(&text.layers), "text.layers: not in 1..=128"),
        (
            text.projection.is_none_or(|width| (1..=1 << 14).contains(&width)),
            "text.projection: not in 1..=16384",
        ),
    ]
}

/// Returns the rules of the denoising network, and of what belongs to it.
fn network_rules(manifest: &Manifest) -> Vec<Rule> {
    let (width, states, pooled) = match &manifest.networks {
        Networks::Flux(spec) => return flux::rules(manifest, spec),
        Networks::Sd(_) => (manifest.text.hidden_size, 0, None),
        Networks::Sdxl(spec) => (
            manifest.text.hidden_size,
            spec.text_2.hidden_size,
            spec.text_2.projection,
        ),
    };
    let states = width.saturating_add(states);
    (manifest.networks.unet()).map_or_else(Vec::new, |unet| unet_rules(unet, states, pooled))
}

/// Returns the rules of a UNet. `states`, `pooled`: widths of the text states and the pooled
/// prompt.
#[rustfmt::skip]
fn unet_rules(unet: &UNetSpec, states: i64, pooled: Option<i64>) -> Vec<Rule> {
    let blocks = &unet.block_out_channels;
    let widths_fit = blocks.iter().all(|&c| divides(32, c) && c <= 1 << 13);
    let heads_fit = blocks.iter().enumerate().all(|(index, &channels)| {
        unet.heads.of_block(index).is_some_and(|heads| divides(heads, channels))
    });
    let attention_fits = unet.attention_blocks.len() == blocks.len();
    let transformers_fit = unet.transformer_layers.as_ref().is_none_or(|layers| {
        layers.len() == blocks.len() && layers.iter().all(|count| (1..=32).contains(count))
    });
    let states_fit = unet.cross_attention_dim == states;
    let pooled_fits = unet.added.map(|added| added.pooled_width) == pooled;
    let time_fits = unet.added.is_none_or(|added| divides(2, added.time_width));
    vec![
        ((1..=6).contains(&blocks.len()), "unet.block_out_channels: not 1 to 6 blocks"),
        (widths_fit, "unet.block_out_channels: not multiples of 32 up to 8192"),
        (attention_fits, "unet.attention_blocks: not one for each block"),
        (heads_fit, "unet.heads does not divide unet.block_out_channels"),
        ((1..=8).contains(&unet.layers_per_block), "unet.layers_per_block: not in 1..=8"),
        (
            transformers_fit,
            "unet.transformer_layers: not 1 to 32 for each block",
        ),
        (states_fit, "unet.cross_attention_dim is not the width of the text encoders together"),
        (pooled_fits, "unet.added.pooled_width is not text_2.projection"),
        (time_fits, "unet.added.time_width: not an even number"),
        ([4, 9].contains(&unet.in_channels), "unet.in_channels: neither 4 nor 9"),
    ]
}

/// Returns the rules of the autoencoder.
#[rustfmt::skip]
fn vae_rules(manifest: &Manifest) -> Vec<Rule> {
    let vae = &manifest.vae;
    let blocks = &vae.block_out_channels;
    let widths_fit = blocks.iter().all(|&c| divides(vae.norm_groups, c) && c <= 1 << 13);
    let channels_fit = match &manifest.networks {
        Networks::Flux(_) => vae.latent_channels == 16,
        Networks::Sd(_) | Networks::Sdxl(_) => vae.latent_channels == 4,
    };
    vec![
        ((1..=6).contains(&blocks.len()), "vae.block_out_channels: not 1 to 6 blocks"),
        (widths_fit, "vae.block_out_channels: not multiples of vae.norm_groups up to 8192"),
        ((1..=8).contains(&vae.layers_per_block), "vae.layers_per_block: not in 1..=8"),
        (channels_fit, "vae.latent_channels: only 4, or 16 for FLUX.1, is supported"),
        (vae.shift_factor.is_finite(), "vae.shift_factor: not a number"),
        (vae.scaling_factor.is_normal(), "vae.scaling_factor: not a number other than 0"),
    ]
}

/// Returns the rules of picture sizes.
#[rustfmt::skip]
fn image_rules(manifest: &Manifest) -> Vec<Rule> {
    let (image, unit) = (&manifest.image, manifest.image.multiple_of);
    let cells_fit = unit > 0 && unit % manifest.vae.downsampling() == 0;
    let is_ordered = 0 < image.min
        && image.min <= image.default
        && image.default <= image.max
        && image.max <= 1 << 13;
    let default_fits = unit > 0 && image.default % unit == 0;
    vec![
        (cells_fit, "image.multiple_of: not a multiple of the VAE's downsampling"),
        (is_ordered, "image: not 1 <= min <= default <= max <= 8192"),
        (default_fits, "image.default: not a multiple of image.multiple_of"),
    ]
}

/// Returns the rules of schedulers, defaults and files.
#[rustfmt::skip]
fn request_rules(manifest: &Manifest) -> Vec<Rule> {
    let (scheduler, defaults) = (&manifest.scheduler, &manifest.defaults);
    let (start, end) = (scheduler.beta_start, scheduler.beta_end);
    let kinds_fit = scheduler.allowed.iter().all(|&kind| scheduler.allows(kind));
    let timesteps = scheduler.num_train_timesteps;
    let betas_fit = scheduler.trained_betas.as_ref().is_none_or(|betas| {
        betas.len() == timesteps as usize
            && betas.iter().all(|beta| (f64::EPSILON..1.0).contains(beta))
    });
    let is_allowed = scheduler.allowed.contains(&scheduler.default);
    let steps_fit = scheduler.default.steps().contains(&defaults.steps);
    let are_inside = manifest.files.iter().all(|entry| stays_inside(&entry.path));
    vec![
        (is_allowed, "scheduler.default is not among scheduler.allowed"),
        (
            0.0 < start && start <= end && end < 1.0,
            "scheduler.beta_start, scheduler.beta_end: not 0 < start <= end < 1",
        ),
        (scheduler.steps_offset <= 1, "scheduler.steps_offset: neither 0 nor 1"),
        (kinds_fit, "scheduler.allowed: kdpm2, kdpm2-a and lms have none of the other settings"),
        (
            (1000..=10_000).contains(&timesteps),
            "scheduler.num_train_timesteps: not in 1000..=10000",
        ),
        (betas_fit, "scheduler.trained_betas: not num_train_timesteps numbers between 0 and 1"),
        ((1..=3).contains(&scheduler.solver_order), "scheduler.solver_order: not in 1..=3"),
        (steps_fit, "defaults.steps: not within the default scheduler's limits"),
        (defaults.guidance.is_finite(), "defaults.guidance: not a number"),
        (are_inside, "files: a path leads out of the folder"),
    ]
}

/// Returns the rules of flows.
#[rustfmt::skip]
fn flow_rules(manifest: &Manifest) -> Vec<Rule> {
    let is_flux = matches!(manifest.networks, Networks::Flux(_));
    let of_family = |is_flow| {
        (is_flow == is_flux, "scheduler.flow: FLUX.1 needs one, and other families have none")
    };
    let Some(flow) = &manifest.scheduler.flow else {
        return vec![of_family(false)];
    };
    let (factor_fits, tokens_fit, shifts_fit) = match flow.shift {
        FlowShift::Fixed(factor) => (factor > 0.0 && factor.is_finite(), true, true),
        FlowShift::BySize { base_shift, max_shift, base_tokens, max_tokens, .. } => {
            let fits = |shift| (0.0..=100.0).contains(&shift);
            (true, base_tokens < max_tokens, fits(base_shift) && fits(max_shift))
        }
    };
    let terminal_fits = flow.shift_terminal.is_none_or(|sigma| 0.0 < sigma && sigma < 1.0);
    vec![
        of_family(true),
        (factor_fits, "scheduler.flow.shift: not a number above 0"),
        (
            tokens_fit,
            "scheduler.flow.shift.base_tokens: not below scheduler.flow.shift.max_tokens",
        ),
        (
            shifts_fit,
            "scheduler.flow.shift.base_shift, scheduler.flow.shift.max_shift: not in 0..=100",
        ),
        (terminal_fits, "scheduler.flow.shift_terminal: not between 0 and 1"),
        (
            (1000..=10_000).contains(&flow.num_train_timesteps),
            "scheduler.flow.num_train_timesteps: not in 1000..=10000",
        ),
    ]
}

fn divides(divisor: i64, n: i64) -> bool {
    divisor > 0 && n > 0 && n % divisor == 0
}
