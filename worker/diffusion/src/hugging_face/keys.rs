//! The keys of Hugging Face's configs by those of a manifest, for errors about derived manifests.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

const TEXT: &str = "text_encoder/config.json";
const TEXT_2: &str = "text_encoder_2/config.json";
const UNET: &str = "unet/config.json";
const VAE: &str = "vae/config.json";
const TRANSFORMER: &str = "transformer/config.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// A manifest's key, the file, and its key there.
#[rustfmt::skip]
const KEYS: [(&str, &str, &str); 58] = [
    ("tokenizer.context", TEXT, "max_position_embeddings"),
    ("text.heads", TEXT, "num_attention_heads"),
    ("text.hidden_size", TEXT, "hidden_size"),
    ("text.intermediate_size", TEXT, "intermediate_size"),
    ("text.layers", TEXT, "num_hidden_layers"),
    ("text.projection", TEXT, "projection_dim"),
    ("text_2.heads", TEXT_2, "num_attention_heads"),
    ("text_2.hidden_size", TEXT_2, "hidden_size"),
    ("text_2.intermediate_size", TEXT_2, "intermediate_size"),
    ("text_2.layers", TEXT_2, "num_hidden_layers"),
    ("text_2.projection", TEXT_2, "projection_dim"),
    ("unet.block_out_channels", UNET, "block_out_channels"),
    ("unet.attention_blocks", UNET, "down_block_types"),
    ("unet.heads", UNET, "attention_head_dim"),
    ("unet.layers_per_block", UNET, "layers_per_block"),
    ("unet.transformer_layers", UNET, "transformer_layers_per_block"),
    ("unet.cross_attention_dim", UNET, "cross_attention_dim"),
    (
        "unet.added.pooled_width", UNET,
        "projection_class_embeddings_input_dim - 6 * addition_time_embed_dim",
    ),
    ("unet.added.time_width", UNET, "addition_time_embed_dim"),
    ("unet.in_channels", UNET, "in_channels"),
    ("vae.block_out_channels", VAE, "block_out_channels"),
    ("vae.norm_groups", VAE, "norm_num_groups"),
    ("vae.layers_per_block", VAE, "layers_per_block"),
    ("vae.latent_channels", VAE, "latent_channels"),
    ("vae.shift_factor", VAE, "shift_factor"),
    ("vae.scaling_factor", VAE, "scaling_factor"),
    ("transformer.heads", TRANSFORMER, "num_attention_heads"),
    ("transformer.head_size", TRANSFORMER, "attention_head_dim"),
    ("transformer.rope_axes", TRANSFORMER, "axes_dims_rope"),
    ("transformer.double_blocks", TRANSFORMER, "num_layers"),
    ("transformer.single_blocks", TRANSFORMER, "num_single_layers"),
    ("transformer.latent_channels", TRANSFORMER, "in_channels / 4"),
    ("transformer.text_width", TRANSFORMER, "joint_attention_dim"),
    ("transformer.pooled_width", TRANSFORMER, "pooled_projection_dim"),
    ("t5.hidden_size", TEXT_2, "d_model"),
    ("t5.heads", TEXT_2, "num_heads"),
    ("t5.head_size", TEXT_2, "d_kv"),
    ("t5.intermediate_size", TEXT_2, "d_ff"),
    ("t5.layers", TEXT_2, "num_layers"),
    ("t5.position_buckets", TEXT_2, "relative_attention_num_buckets"),
    ("t5.max_distance", TEXT_2, "relative_attention_max_distance"),
    ("t5.norm_epsilon", TEXT_2, "layer_norm_epsilon"),
    ("image.default", UNET, "sample_size"),
    ("scheduler.default", SCHEDULER, "_class_name"),
    ("scheduler.beta_start", SCHEDULER, "beta_start"),
    ("scheduler.beta_end", SCHEDULER, "beta_end"),
    ("scheduler.steps_offset", SCHEDULER, "steps_offset"),
    ("scheduler.num_train_timesteps", SCHEDULER, "num_train_timesteps"),
    ("scheduler.trained_betas", SCHEDULER, "trained_betas"),
    ("scheduler.solver_order", SCHEDULER, "solver_order"),
    ("scheduler.flow", SCHEDULER, "_class_name"),
    ("scheduler.flow.shift", SCHEDULER, "shift"),
    ("scheduler.flow.shift.base_tokens", SCHEDULER, "base_image_seq_len"),
    ("scheduler.flow.shift.max_tokens", SCHEDULER, "max_image_seq_len"),
    ("scheduler.flow.shift.base_shift", SCHEDULER, "base_shift"),
    ("scheduler.flow.shift.max_shift", SCHEDULER, "max_shift"),
    ("scheduler.flow.shift_terminal", SCHEDULER, "shift_terminal"),
    ("scheduler.flow.num_train_timesteps", SCHEDULER, "num_train_timesteps"),
];

/// Reads settings from a config.
///
/// # Errors
/// What is wrong with the config, and the key at fault.
pub(super) fn parsed<T: DeserializeOwned>(config: &Map<String, Value>) -> Result<T, String> {
    let read = |config| serde_json::from_value::<T>(Value::Object(config));
    read(config.clone()).map_err(|error| {
        // serde names the keys that are missing only. Without the one at fault it has another
        // complaint, or none.
        let message = error.to_string();
        let at_fault = config.iter().find(|(key, _)| {
            let mut others = config.clone();
            others.remove(*key);
            read(others)
                .err()
                .is_none_or(|other| other.to_string() != message)
        });
        at_fault.map_or_else(|| message.clone(), |(key, _)| format!("{key}: {message}"))
    })
}

/// Returns a broken rule of a manifest in the words of the configs: the file of its first key, and
/// the message with the configs' keys. `None` if no config has such a key.
pub(crate) fn in_configs(rule: &str) -> Option<(&'static str, String)> {
    let mut at_fault = None;
    let words = rule.split(' ').map(|word| {
        let key = word.trim_end_matches([',', ':']);
        let Some((_, file, theirs)) = KEYS.iter().find(|(ours, ..)| *ours == key) else {
            return word.to_owned();
        };
        let end = &word[key.len()..];
        match *at_fault.get_or_insert(*file) == *file {
            true => format!("{theirs}{end}"),
            false => format!("{theirs} of {file}{end}"),
        }
    });
    let message = words.collect::<Vec<_>>().join(" ");
    at_fault.map(|file| (file, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_put_in_the_words_of_the_configs() {
        for (rule, file, message) in [
            (
                "unet.heads does not divide unet.block_out_channels",
                UNET,
                "attention_head_dim does not divide block_out_channels",
            ),
            (
                "transformer.latent_channels is not vae.latent_channels",
                TRANSFORMER,
                "in_channels / 4 is not latent_channels of vae/config.json",
            ),
            (
                "vae.block_out_channels: not 1 to 6 blocks",
                VAE,
                "block_out_channels: not 1 to 6 blocks",
            ),
        ] {
            assert_eq!(in_configs(rule), Some((file, message.to_owned())));
        }
        assert_eq!(in_configs("schema: only 1 is known"), None);
    }
}
