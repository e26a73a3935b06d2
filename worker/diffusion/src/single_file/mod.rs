//! Derives a manifest from a single safetensors file in the layout in which Stable Diffusion 1.5,
//! XL and FLUX.1 were published. The family is found from the tensors' names, as diffusers'
//! `from_single_file` does.

mod component;
mod flux;
mod folders;
mod header;
mod networks;

use std::path::Path;

use safetensors::tensor::Dtype as StoredType;
use serde_json::{Map, Value, json};

use crate::checkpoint;
use crate::error::Error;
use crate::folder::bad;
use crate::hugging_face::{self, Folder, defaults};
use crate::manifest::{
    Manifest, Networks, SchedulerSpec, SdSpec, SdxlSpec, TokenizerSpec, UNetSpec,
};
use component::{CLIP, UNET, VAE, XL_CLIP, XL_OPEN_CLIP};
use folders::TOKENIZER;
use header::Part;
use networks::Text;

pub(crate) use component::Component;
pub(crate) use folders::PartFolders;
pub(crate) use header::Tensors;

/// Extension of such a file.
pub(crate) const EXTENSION: &str = "safetensors";

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

/// A single file, and the folders of the parts that it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SingleFile {
    /// Relative to the models folder.
    pub(crate) name: String,
    pub(crate) folders: PartFolders,
    /// How the names of the denoising network's tensors begin.
    prefix: &'static str,
}

/// Returns the names of the folders that may have parts of a model.
pub(crate) fn part_names() -> impl Iterator<Item = &'static str> {
    folders::SHARED.into_iter().chain(folders::OWN)
}

/// Derives the manifest of a file.
pub(crate) fn derive(path: &Path, model: &str) -> Result<Manifest, Error> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let tensors = checkpoint::header(path, model)?;
    let folder = path.parent().unwrap_or(path);
    let refused = |message: String| bad(model, &file, message);
    check_types(&tensors).map_err(refused)?;
    let family = match family(&tensors).map_err(refused)? {
        Family::Flux(prefix) => {
            let folder = Folder {
                path: folder,
                model,
                parts: None,
            };
            return flux::derive(&tensors, prefix, folder, &file);
        }
        Family::Unet(family) => family,
    };
    let manifest = manifest(&tensors, family, model).map_err(refused)?;
    Ok(Manifest {
        name: model.to_owned(),
        folder: folder.to_owned(),
        single_file: Some(SingleFile {
            name: file.to_string(),
            folders: tokenizers(folder, model)?,
            prefix: UNET,
        }),
        ..manifest
    })
}

/// Returns the folder of CLIP's vocabulary for all text encoders: the model's own, or that of all
/// files.
fn tokenizers(models: &Path, model: &str) -> Result<PartFolders, Error> {
    let mut folders = PartFolders::find(models, model).only(|part| part == TOKENIZER);
    if !folders.have(TOKENIZER) {
        let message = "missing: a single file has no vocabulary; copy the folder tokenizer of any \
            Stable Diffusion model in diffusers' layout (vocab.json, merges.txt) into the models \
            folder";
        return Err(bad(model, TOKENIZER, message));
    }
    folders.share(TOKENIZER, "tokenizer_2");
    Ok(folders)
}

/// # Errors
/// A sentence that names a tensor of a type in which no network computes.
fn check_types(tensors: &Tensors) -> Result<(), String> {
    use StoredType::{BF16, F16, F32, F64, I32, I64};
    // Integers are marks and positions.
    let is_supported = |dtype: &StoredType| [F16, BF16, F32, F64, I32, I64].contains(dtype);
    let quantized = (tensors.iter()).find(|(_, (_, dtype))| !is_supported(dtype));
    quantized.map_or(Ok(()), |(name, (_, dtype))| {
        Err(format!(
            "{name}: its type is {dtype}, and float8 and quantized weights are not supported: use \
             the file in BF16 or F16, or convert this one in Python, with from_single_file of \
             diffusers' pipeline (torch_dtype=torch.bfloat16), then save_pretrained"
        ))
    })
}

#[derive(Clone, Copy)]
enum Family {
    Unet(UNetFamily),
    /// FLUX.1, and how the names of its tensors begin.
    Flux(&'static str),
}

#[derive(Clone, Copy)]
enum UNetFamily {
    Sd,
    Xl,
}

/// # Errors
/// A sentence that names the tensor that is not supported.
fn manifest(tensors: &Tensors, family: UNetFamily, model: &str) -> Result<Manifest, String> {
    let prefixes: &[&str] = match family {
        UNetFamily::Sd => &[UNET, VAE, CLIP],
        UNetFamily::Xl => &[UNET, VAE, XL_CLIP, XL_OPEN_CLIP],
    };
    let begins =
        |name: &String, starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    let stray = |name: &&String| !begins(name, prefixes) && !begins(name, &UNUSED);
    if let Some(name) = tensors.keys().find(stray) {
        return Err(format!("{name}: a model of this family has no use for it"));
    }
    let part = |prefix| Part::new(tensors, prefix);
    let (vae, guidance, side) = match family {
        UNetFamily::Sd => (0.18215, hugging_face::GUIDANCE_OF_SD, 512),
        UNetFamily::Xl => (0.13025, hugging_face::GUIDANCE_OF_XL, 1024),
    };
    let scheduler = scheduler(tensors, family, model)?;
    let vae = networks::vae(part(VAE), vae)?;
    let (text, networks) = match family {
        UNetFamily::Sd => {
            let unet = networks::unet(part(UNET), None)?;
            (clip(tensors, CLIP)?, Networks::Sd(SdSpec { unet }))
        }
        UNetFamily::Xl => {
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
        defaults: defaults::of_unet(guidance, &scheduler, model),
        scheduler,
        vram_bytes_estimate: None,
        folder: Default::default(),
        single_file: None,
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
    for prefix in ["", UNET] {
        if has(&format!("{prefix}double_blocks.")) {
            return Ok(Family::Flux(prefix));
        }
    }
    let other = if has(&format!("{UNET}joint_blocks.")) || has("joint_blocks.") {
        "Stable Diffusion 3"
    } else if has("conditioner.embedders.0.model.") {
        "Stable Diffusion XL's refiner"
    } else if has("cond_stage_model.model.") {
        "a single file of Stable Diffusion 2"
    } else if !has(UNET) || !has(VAE) {
        return Err(format!(
            "neither a whole Stable Diffusion model, with tensors named {UNET}* and {VAE}*, nor a \
             transformer of FLUX.1, with double_blocks.*; LoRAs belong into the folder of --loras"
        ));
    } else if has(XL_CLIP) && has(XL_OPEN_CLIP) {
        return Ok(Family::Unet(UNetFamily::Xl));
    } else if has(CLIP) {
        return Ok(Family::Unet(UNetFamily::Sd));
    } else {
        return Err(format!("it has no text encoder: {CONVERT}"));
    };
    Err(format!("{other} is not supported: {CONVERT}"))
}

/// Returns the scheduler of the published model, or of Stable Diffusion's turbo models if the name
/// is that of a distilled one: their training visited the last timestep.
fn scheduler(tensors: &Tensors, family: UNetFamily, model: &str) -> Result<SchedulerSpec, String> {
    let (class, spacing) = match family {
        _ if defaults::is_named_distilled(model) => ("EulerDiscreteScheduler", "trailing"),
        UNetFamily::Sd => ("PNDMScheduler", "leading"),
        UNetFamily::Xl => ("EulerDiscreteScheduler", "leading"),
    };
    let mut config: Map<String, Value> = Map::new();
    for (key, value) in [
        ("beta_start", json!(0.00085)),
        ("beta_end", json!(0.012)),
        ("beta_schedule", json!("scaled_linear")),
        ("timestep_spacing", json!(spacing)),
        ("skip_prk_steps", json!(true)),
        ("steps_offset", json!(1)),
        ("clip_sample", json!(false)),
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
