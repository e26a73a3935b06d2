//! FLUX.1 computes the same as Python's diffusers and transformers, stage by stage.
//! models/references/flux.py wrote the references, with tiny networks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::ops::ControlFlow;

use serde_json::{Value, json};
use support::keyed_model::{KeyedModel, references, tensor};
use support::reference::Reference;
use tch::{Kind, Tensor};
use warmq_diffusion::{
    Dtype, EncodedPrompts, Lora, Networks, Observer, Picture, Pipeline, Request, Start,
};

const TRANSFORMER: &str = "transformer/config.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// As dev, without an input for the guidance and without a shift by size.
fn schnell() -> KeyedModel {
    let model = KeyedModel::new("flux");
    model.edit(TRANSFORMER, "guidance_embeds", json!(false));
    model.edit(SCHEDULER, "use_dynamic_shifting", json!(false));
    model.edit(SCHEDULER, "shift", json!(1.0));
    model.write_weights(|name| !name.contains("guidance_embedder"));
    model
}

fn reference() -> Reference {
    Reference::read(&references().join("flux.safetensors"))
}

fn request(reference: &Reference, guidance: f64) -> Request {
    let noise = reference.tensors["noise"].size();
    let side = |cells: i64| Some(u32::try_from(8 * cells).unwrap());
    Request {
        prompt: reference.fact("prompt").to_owned(),
        height: side(noise[2]),
        width: side(noise[3]),
        steps: reference.fact("steps").parse().ok(),
        guidance: Some(guidance),
        ..Request::default()
    }
}

/// Compares a call of the transformer, and the latents of whole pictures.
fn denoises_as_in_python(
    name: &str,
    pipeline: &Pipeline,
    guidance: f64,
) -> (Reference, EncodedPrompts) {
    let reference = reference();
    let request = request(&reference, guidance);
    let prompts = pipeline.encode(&request).unwrap();
    reference.holds(&format!("{name}_t5_states"), &prompts.states);
    reference.holds("pooled", prompts.pooled.as_ref().unwrap());

    let noise = &reference.tensors["noise"];
    let timestep = reference.fact("timestep").parse().unwrap();
    let prediction = pipeline.predict(noise, timestep, &prompts, guidance);
    reference.holds(&format!("{name}_prediction"), &prediction.unwrap());

    let latents = pipeline.denoise(noise, &prompts, &request).unwrap();
    reference.holds(&format!("{name}_latents"), &latents);

    let request = Request {
        // Latents and noise of the starting picture are given; its pixels are ignored.
        image: Some(Picture {
            width: 1,
            height: 1,
            rgb: vec![0; 3],
        }),
        strength: reference.fact("strength").parse().ok(),
        ..request
    };
    let (start, noise) = (reference.start(), &reference.tensors["redraw_noise"]);
    let redrawn = pipeline.redraw(&start, noise, &prompts, &request);
    reference.holds(&format!("{name}_redrawn"), &redrawn.unwrap());

    let start = Start {
        mask: Some(reference.tensors["mask"].shallow_clone()),
        ..start
    };
    for (task, strength) in [("filled", Some(1.0)), ("varied", request.strength)] {
        let request = Request {
            strength,
            ..request.clone()
        };
        let inpainted = pipeline.redraw(&start, noise, &prompts, &request);
        reference.holds(&format!("{name}_{task}"), &inpainted.unwrap());
    }
    (reference, prompts)
}

#[test]
fn dev_agrees_with_python() {
    let pipeline = KeyedModel::new("flux").load().unwrap();
    let guidance = reference().fact("guidance").parse().unwrap();
    let (reference, _) = denoises_as_in_python("dev", &pipeline, guidance);
    for prompt in ["prompt", "long"] {
        let fact = if prompt == "long" {
            "long_prompt"
        } else {
            prompt
        };
        let tokens = pipeline.tokens(reference.fact(fact)).unwrap();
        let theirs = &reference.tensors[&format!("{prompt}_clip_tokens")];
        assert_eq!(&Tensor::from_slice(&tokens).unsqueeze(0), theirs);
    }
    let decoded = pipeline.decode(&reference.tensors["dev_latents"]).unwrap();
    reference.holds("dev_picture", &decoded);
    let picture = tensor("picture", &decoded.size()).clamp(-1.0, 1.0);
    let seed = reference.fact("encoding_seed").parse().unwrap();
    reference.holds("encoded", &pipeline.encode_picture(&picture, seed).unwrap());
}

#[test]
fn schnell_agrees_with_python() {
    let pipeline = schnell().load().unwrap();
    let (reference, prompts) = denoises_as_in_python("schnell", &pipeline, 0.0);
    let noise = &reference.tensors["noise"];
    let [one, other] = [0.0, 7.0].map(|g| pipeline.predict(noise, 600.0, &prompts, g).unwrap());
    assert_eq!(one, other, "schnell has no guidance");
}

#[test]
fn loras_with_each_kind_of_names_agree_with_python() {
    let pipeline = KeyedModel::new("flux").load().unwrap();
    let reference = reference();
    let noise = &reference.tensors["noise"];
    let plain = request(&reference, reference.fact("guidance").parse().unwrap());
    for kind in ["flux_peft", "flux_kohya", "flux_published"] {
        let request = Request {
            loras: vec![Lora::new(
                references().join(format!("lora_{kind}.safetensors")),
                reference.fact("lora_scale").parse().unwrap(),
            )],
            ..plain.clone()
        };
        let _attached = pipeline.attach(&request).unwrap();
        let prompts = pipeline.encode(&request).unwrap();
        let latents = pipeline.denoise(noise, &prompts, &request).unwrap();
        reference.holds(&format!("lora_{kind}"), &latents);
    }
}

/// Counts calls and previews.
#[derive(Default)]
struct Counts {
    steps: u32,
    previews: Vec<(u32, u32)>,
}

impl Observer for Counts {
    fn step(&mut self, step: u32, _steps: u32) -> ControlFlow<()> {
        self.steps = step;
        ControlFlow::Continue(())
    }

    fn preview(&mut self, preview: Picture) {
        self.previews.push((preview.width, preview.height));
    }
}

#[test]
fn a_picture_takes_one_call_for_each_step_and_shows_previews() {
    let pipeline = KeyedModel::new("flux").load().unwrap();
    let request = Request {
        negative_prompt: Some("a triangle".to_owned()),
        previews: true,
        ..request(&reference(), 3.5)
    };
    let mut counts = Counts::default();
    let pictures = pipeline.generate(&request, &mut counts).unwrap();
    assert_eq!((pictures[0].width, pictures[0].height), (80, 64));
    assert_eq!((counts.steps, counts.previews), (4, vec![(10, 8); 3]));
    let positive = Request {
        negative_prompt: None,
        ..request
    };
    assert!(pipeline.generate(&positive, &mut ()).unwrap() == pictures);
    let weaker = Request {
        guidance: Some(1.0),
        ..positive
    };
    assert!(pipeline.generate(&weaker, &mut ()).unwrap() != pictures);
}

#[test]
fn defaults_are_those_of_the_cards_and_sizes_are_multiples_of_16() {
    let (dev, schnell) = (KeyedModel::new("flux"), schnell());
    let defaults = |folder: &KeyedModel| folder.manifest().unwrap().defaults;
    assert_eq!((defaults(&dev).steps, defaults(&dev).guidance), (28, 3.5));
    assert_eq!(
        (defaults(&schnell).steps, defaults(&schnell).guidance),
        (4, 0.0)
    );
    let request = Request {
        width: Some(72),
        ..request(&reference(), 3.5)
    };
    let error = request.check(&dev.manifest().unwrap()).unwrap_err();
    assert!(error.to_string().contains("multiple of 16"), "{error}");
}

#[test]
fn a_folder_of_another_kind_is_refused_by_name() {
    for (file, key, value, named) in [
        (TRANSFORMER, "patch_size", json!(2), "patch_size"),
        (TRANSFORMER, "in_channels", json!(384), "in_channels / 4"),
        (TRANSFORMER, "out_channels", json!(32), "out_channels"),
        (
            TRANSFORMER,
            "joint_attention_dim",
            json!(64),
            "joint_attention_dim",
        ),
        (
            TRANSFORMER,
            "pooled_projection_dim",
            json!(64),
            "pooled_projection_dim is not hidden_size of text_encoder/config.json",
        ),
        (
            TRANSFORMER,
            "axes_dims_rope",
            json!([4, 6, 8]),
            "axes_dims_rope",
        ),
        (TRANSFORMER, "num_layers", json!(0), "num_layers"),
        (
            "text_encoder_2/config.json",
            "feed_forward_proj",
            json!("relu"),
            "feed_forward_proj",
        ),
        ("text_encoder_2/config.json", "d_kv", json!(0), "d_kv"),
        (
            "text_encoder_2/config.json",
            "relative_attention_max_distance",
            json!(8),
            "relative_attention_max_distance",
        ),
        (
            "text_encoder_2/config.json",
            "relative_attention_num_buckets",
            json!(3),
            "relative_attention_num_buckets",
        ),
        (
            "text_encoder_2/config.json",
            "layer_norm_epsilon",
            json!(0.0),
            "layer_norm_epsilon",
        ),
        (
            "vae/config.json",
            "latent_channels",
            json!(4),
            "latent_channels",
        ),
        (
            "vae/config.json",
            "use_quant_conv",
            json!(true),
            "use_quant_conv",
        ),
        (SCHEDULER, "use_beta_sigmas", json!(true), "use_beta_sigmas"),
        (
            SCHEDULER,
            "base_image_seq_len",
            json!(4096),
            "base_image_seq_len",
        ),
        (SCHEDULER, "shift_terminal", json!(1.5), "shift_terminal"),
        (
            "model_index.json",
            "_class_name",
            json!("FluxFillPipeline"),
            "FluxFillPipeline",
        ),
        (
            "model_index.json",
            "_class_name",
            json!("StableDiffusionPipeline"),
            "unet",
        ),
        (
            "model_index.json",
            "scheduler",
            json!(["diffusers", "DDIMScheduler"]),
            "not supported",
        ),
    ] {
        let folder = KeyedModel::new("flux");
        folder.edit(file, key, value.clone());
        let error = folder.manifest().err().map(|error| error.to_string());
        let message = error.unwrap_or_default();
        assert!(message.contains(named), "{key} {value}: {message:?}");
        assert!(!message.contains("manifest.json"), "{message:?}");
    }
}

#[test]
fn every_tensor_exists_once_and_has_a_use() {
    let folder = schnell();
    folder.write_weights(|_| true);
    let error = folder.load().err().unwrap().to_string();
    assert!(
        error.contains("guidance_embedder") && error.contains("no use"),
        "{error}"
    );
    for missing in [
        |name: &str| !name.contains("relative_attention_bias"),
        |name: &str| !name.contains("norm_added_q"),
    ] {
        let folder = KeyedModel::new("flux");
        folder.write_weights(missing);
        let error = folder.load().err().unwrap().to_string();
        assert!(error.contains("missing"), "{error}");
    }
    // T5's embedding is also stored under the encoder's name.
    let folder = KeyedModel::new("flux");
    let path = folder.path("text_encoder_2/model.safetensors");
    let mut tensors = Tensor::read_safetensors(&path).unwrap();
    let shared = tensors.iter().find(|(name, _)| name == "shared.weight");
    let shared = shared.unwrap().1.to_kind(Kind::Float);
    tensors.push(("encoder.embed_tokens.weight".to_owned(), shared));
    Tensor::write_safetensors(&tensors, &path).unwrap();
    folder.load().unwrap();
}

/// Configs of full size, with keys that older versions of diffusers and transformers write. Those
/// of the transformer, the autoencoder and dev's scheduler follow public copies of FLUX.1's; those
/// of the text encoders and schnell's scheduler were not compared with a copy.
#[test]
fn full_size_configs_of_older_versions_are_supported() {
    let folder = KeyedModel::new("flux");
    let write = |file: &str, config: Value| {
        fs::write(folder.path(file), config.to_string()).unwrap();
    };
    write(
        "text_encoder/config.json",
        json!({
            "architectures": ["CLIPTextModel"], "attention_dropout": 0.0, "bos_token_id": 0,
            "dropout": 0.0, "eos_token_id": 2, "hidden_act": "quick_gelu", "hidden_size": 768,
            "initializer_factor": 1.0, "initializer_range": 0.02, "intermediate_size": 3072,
            "layer_norm_eps": 1e-5, "max_position_embeddings": 77, "model_type": "clip_text_model",
            "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 1,
            "projection_dim": 768, "torch_dtype": "bfloat16", "vocab_size": 49408,
        }),
    );
    write(
        "text_encoder_2/config.json",
        json!({
            "architectures": ["T5EncoderModel"], "classifier_dropout": 0.0, "d_ff": 10240,
            "d_kv": 64, "d_model": 4096, "decoder_start_token_id": 0, "dense_act_fn": "gelu_new",
            "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu",
            "initializer_factor": 1.0, "is_encoder_decoder": true, "is_gated_act": true,
            "layer_norm_epsilon": 1e-6, "model_type": "t5", "num_decoder_layers": 24,
            "num_heads": 64, "num_layers": 24, "output_past": true, "pad_token_id": 0,
            "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32,
            "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true,
            "vocab_size": 32128,
        }),
    );
    write(
        "vae/config.json",
        json!({
            "_class_name": "AutoencoderKL", "act_fn": "silu",
            "block_out_channels": [128, 256, 512, 512],
            "down_block_types": vec!["DownEncoderBlock2D"; 4], "force_upcast": true,
            "in_channels": 3,
            "latent_channels": 16, "latents_mean": null, "latents_std": null,
            "layers_per_block": 2, "mid_block_add_attention": true, "norm_num_groups": 32,
            "out_channels": 3, "sample_size": 1024, "scaling_factor": 0.3611,
            "shift_factor": 0.1159, "up_block_types": vec!["UpDecoderBlock2D"; 4],
            "use_post_quant_conv": false, "use_quant_conv": false,
        }),
    );
    for (guidance, context) in [(true, 512), (false, 256)] {
        write(
            TRANSFORMER,
            json!({
                "_class_name": "FluxTransformer2DModel", "attention_head_dim": 128,
                "guidance_embeds": guidance, "in_channels": 64, "joint_attention_dim": 4096,
                "num_attention_heads": 24, "num_layers": 19, "num_single_layers": 38,
                "patch_size": 1, "pooled_projection_dim": 768,
            }),
        );
        write(
            SCHEDULER,
            json!({
                "_class_name": "FlowMatchEulerDiscreteScheduler", "base_image_seq_len": 256,
                "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15,
                "num_train_timesteps": 1000, "shift": if guidance { 3.0 } else { 1.0 },
                "use_dynamic_shifting": guidance,
            }),
        );
        let manifest = folder.manifest().unwrap();
        let Networks::Flux(spec) = &manifest.networks else {
            panic!("{} is not flux", manifest.networks.family());
        };
        assert_eq!((spec.transformer.width(), spec.t5.context), (3072, context));
        assert_eq!(manifest.dtype, Dtype::Bf16);
        assert_eq!(
            (manifest.image.default, manifest.image.multiple_of),
            (1024, 16)
        );
    }
}
