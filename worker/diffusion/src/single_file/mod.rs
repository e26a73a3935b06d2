//! Derives a manifest from a single safetensors file with all networks, in the layout in which
//! Stable Diffusion 1.5 and XL were published. The family is found from the tensors' names, as
//! diffusers' `from_single_file` does.

mod component;
mod header;
mod networks;

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::checkpoint;
use crate::error::Error;
use crate::folder::bad;
use crate::hugging_face;
use crate::manifest::{
    Manifest, Networks, SchedulerSpec, SdSpec, SdxlSpec, TokenizerSpec, UNetSpec,
};
use component::{CLIP, UNET, VAE, XL_CLIP, XL_OPEN_CLIP};
use header::Part;
use networks::Text;

pub(crate) use component::Component;
pub(crate) use header::Tensors;

/// Extension of such a file.
pub(crate) const EXTENSION: &str = "safetensors";

/// Folder of CLIP's vocabulary, which the file does not contain.
pub(crate) const TOKENIZER: &str = "tokenizer";

/// How names of tensors begin that are no weights: averages of the training, noise schedules and
/// marks.
const UNUSED: [&str; 14] = [
    "model_ema.",
    "denoiser.",
    "betas",
    "alphas_cumprod",
    "sqrt_",
    "log_one_minus_alphas_cumprod",
    "posterior_",
    "lvlb_weights",
    "logvar",
    "global_step",
    "scale_factor",
    "cond_stage_model.logit_scale",
    V_PREDICTION,
    ZERO_SNR,
];

/// Tensors that mark how a model was trained. They are a convention of other programs that read
/// such files; diffusers does not read them.
const V_PREDICTION: &str = "v_pred";
const ZERO_SNR: &str = "ztsnr";

/// The remedy for other families.
const CONVERT: &str = "convert it in Python, with from_single_file of diffusers' pipeline, then \
    save_pretrained, and use that folder";

/// Derives the manifest of a file.
pub(crate) fn derive(path: &Path, model: &str) -> Result<Manifest, Error> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let tensors = checkpoint::header(path, model)?;
    let folder = path.parent().unwrap_or(path);
    let manifest = manifest(&tensors).map_err(|message| bad(model, &file, message))?;
    Ok(Manifest {
        name: model.to_owned(),
        folder: folder.to_owned(),
        tokenizer_folder: Some(tokenizer(folder, model)?),
        single_file: Some(file.into_owned()),
        ..manifest
    })
}

/// Returns the folder of CLIP's vocabulary: the model's own, or that of all files.
fn tokenizer(folder: &Path, model: &str) -> Result<String, Error> {
    let own = format!("{model}/{TOKENIZER}");
    let found = [own, TOKENIZER.to_owned()]
        .into_iter()
        .find(|tokenizer| folder.join(tokenizer).is_dir());
    found.ok_or_else(|| {
        let message = "missing: a single file has no vocabulary; copy the folder tokenizer of any \
            Stable Diffusion model in diffusers' layout (vocab.json, merges.txt) into the models \
            folder";
        bad(model, TOKENIZER, message)
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Family {
    Sd,
    Xl,
}

/// # Errors
/// A sentence that names the family, or the tensor, that is not supported.
fn manifest(tensors: &Tensors) -> Result<Manifest, String> {
    let family = family(tensors)?;
    let prefixes: &[&str] = match family {
        Family::Sd => &[UNET, VAE, CLIP],
        Family::Xl => &[UNET, VAE, XL_CLIP, XL_OPEN_CLIP],
    };
    let begins =
        |name: &String, starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    let stray = |name: &&String| !begins(name, prefixes) && !begins(name, &UNUSED);
    if let Some(name) = tensors.keys().find(stray) {
        return Err(format!("{name}: a model of this family has no use for it"));
    }
    let part = |prefix| Part::new(tensors, prefix);
    let (vae, defaults, side) = match family {
        Family::Sd => (0.18215, hugging_face::unet_defaults(7.5), 512),
        Family::Xl => (0.13025, hugging_face::unet_defaults(5.0), 1024),
    };
    let vae = networks::vae(part(VAE), vae)?;
    let (text, networks) = match family {
        Family::Sd => {
            let unet = networks::unet(part(UNET), None)?;
            (clip(tensors, CLIP)?, Networks::Sd(SdSpec { unet }))
        }
        Family::Xl => {
            let second = networks::open_clip(part(XL_OPEN_CLIP))?;
            let unet = networks::unet(part(UNET), second.spec.projection)?;
            (clip(tensors, XL_CLIP)?, sdxl(unet, second))
        }
    };
    Ok(Manifest {
        schema: 1,
        name: String::new(),
        revision: String::new(),
        license: String::new(),
        files: Vec::new(),
        dtype: part(UNET).dtype("input_blocks.0.0.weight"),
        image: hugging_face::sizes(side, vae.downsampling()),
        tokenizer: tokens("<|endoftext|>", text.context),
        text: text.spec,
        networks,
        vae,
        scheduler: scheduler(tensors, family)?,
        defaults,
        vram_bytes_estimate: None,
        folder: Default::default(),
        single_file: None,
        tokenizer_folder: None,
    })
}

fn clip(tensors: &Tensors, prefix: &str) -> Result<Text, String> {
    // Old exporters left it out.
    let whole = format!("{prefix}text_model.");
    let prefix = match tensors.keys().any(|name| name.starts_with(&whole)) {
        true => &whole,
        false => prefix,
    };
    networks::clip(Part::new(tensors, prefix))
}

fn sdxl(unet: UNetSpec, text: Text) -> Networks {
    Networks::Sdxl(Box::new(SdxlSpec {
        unet,
        tokenizer_2: tokens("!", text.context),
        text_2: text.spec,
        force_zeros_for_empty_prompt: true,
    }))
}

fn tokens(pad: &str, context: usize) -> TokenizerSpec {
    TokenizerSpec {
        kind: "clip-bpe".to_owned(),
        context,
        pad: pad.to_owned(),
    }
}

fn family(tensors: &Tensors) -> Result<Family, String> {
    let has = |prefix: &str| tensors.keys().any(|name| name.starts_with(prefix));
    let other = if has("double_blocks.") || has(&format!("{UNET}double_blocks.")) {
        "a single file of FLUX.1"
    } else if has(&format!("{UNET}joint_blocks.")) || has("joint_blocks.") {
        "Stable Diffusion 3"
    } else if has("conditioner.embedders.0.model.") {
        "Stable Diffusion XL's refiner"
    } else if has("cond_stage_model.model.") {
        "a single file of Stable Diffusion 2"
    } else if !has(UNET) || !has(VAE) {
        return Err(format!(
            "not a whole Stable Diffusion model: tensors named {UNET}* and {VAE}* are expected; \
             LoRAs belong into the folder of --loras"
        ));
    } else if has(XL_CLIP) && has(XL_OPEN_CLIP) {
        return Ok(Family::Xl);
    } else if has(CLIP) {
        return Ok(Family::Sd);
    } else {
        return Err(format!("it has no text encoder: {CONVERT}"));
    };
    Err(format!("{other} is not supported: {CONVERT}"))
}

/// Returns the scheduler of the published model.
fn scheduler(tensors: &Tensors, family: Family) -> Result<SchedulerSpec, String> {
    let class = match family {
        Family::Sd => "PNDMScheduler",
        Family::Xl => "EulerDiscreteScheduler",
    };
    let mut config: Map<String, Value> = Map::new();
    for (key, value) in [
        ("beta_start", json!(0.00085)),
        ("beta_end", json!(0.012)),
        ("beta_schedule", json!("scaled_linear")),
        ("timestep_spacing", json!("leading")),
        ("skip_prk_steps", json!(true)),
        ("set_alpha_to_one", json!(false)),
        (
            "rescale_betas_zero_snr",
            json!(tensors.contains_key(ZERO_SNR)),
        ),
    ] {
        config.insert(key.to_owned(), value);
    }
    if tensors.contains_key(V_PREDICTION) {
        config.insert("prediction_type".to_owned(), json!("v_prediction"));
    }
    hugging_face::read_scheduler(class, &config).map(|(_, spec)| spec)
}
