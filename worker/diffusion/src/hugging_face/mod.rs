//! Derives a manifest from a bare Hugging Face folder: `model_index.json` and the components'
//! configs, as `save_pretrained` writes them. Missing values take Hugging Face's defaults. Every
//! other key of a config changes nothing, or refuses the model by name.

mod allowed;
mod flow_match;
mod flux;
mod folder;
mod scheduler;
mod text;
mod unet;
mod vae;

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::manifest::{
    Defaults, ImageSizes, Manifest, Networks, SchedulerSpec, SdSpec, SdxlSpec, VaeSpec,
};
#[cfg(test)]
use crate::scheduler::SchedulerKind;
use folder::Folder;
pub(crate) use scheduler::read as read_scheduler;
use unet::UNetConfig;

/// The file that identifies such a folder.
pub(crate) const INDEX: &str = "model_index.json";

const SCHEDULER: &str = "scheduler/scheduler_config.json";

#[derive(Deserialize)]
struct Index {
    #[serde(rename = "_class_name")]
    class_name: String,
    /// Library and class of the scheduler, which the scheduler's own config may contradict.
    scheduler: Option<(String, String)>,
    /// Of Stable Diffusion XL; true by default.
    force_zeros_for_empty_prompt: Option<bool>,
    /// Of Stable Diffusion XL's refiner.
    #[serde(default)]
    requires_aesthetics_score: bool,
}

/// The families by the classes of their pipelines: the tasks of a checkpoint do not differ in its
/// files.
const STABLE_DIFFUSION: [&str; 3] = [
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
];
const FLUX: [&str; 2] = ["FluxPipeline", "FluxImg2ImgPipeline"];
const STABLE_DIFFUSION_XL: [&str; 3] = [
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
];

/// Derives the manifest of a bare folder.
pub(crate) fn derive(path: &Path, model: &str) -> Result<Manifest, Error> {
    let folder = Folder { path, model };
    let index: Index = folder.json(INDEX)?;
    let class = index.class_name.as_str();
    let text = text::encoder(folder, "text_encoder")?;
    let tokenizer = text::tokenizer(folder, "tokenizer", text.max_position_embeddings)?;
    let vae = vae::vae(folder)?;
    let dtype = text.stored_dtype();
    let (networks, image, defaults) = if STABLE_DIFFUSION.contains(&class) {
        let unet = unet::unet(folder)?;
        let image = sizes_of(&vae, &unet);
        let unet = unet.spec();
        (Networks::Sd(SdSpec { unet }), image, unet_defaults(7.5))
    } else if STABLE_DIFFUSION_XL.contains(&class) {
        let unet = unet::unet(folder)?;
        let image = sizes_of(&vae, &unet);
        let spec = sdxl(folder, &index, unet)?;
        (Networks::Sdxl(Box::new(spec)), image, unet_defaults(5.0))
    } else if FLUX.contains(&class) {
        let spec = flux::read(folder)?;
        let (image, defaults) = (flux::sizes(&vae), flux::defaults(&spec));
        (Networks::Flux(Box::new(spec)), image, defaults)
    } else {
        let known = [STABLE_DIFFUSION.as_slice(), &STABLE_DIFFUSION_XL, &FLUX];
        let known = known.concat().join(", ");
        let message = format!("a {class} is not supported, only {known}");
        return Err(folder.bad(INDEX, message));
    };
    Ok(Manifest {
        schema: 1,
        name: model.to_owned(),
        revision: String::new(),
        license: String::new(),
        files: Vec::new(),
        vram_bytes_estimate: None,
        folder: path.to_owned(),
        single_file: None,
        tokenizer_folder: None,
        dtype,
        image,
        tokenizer,
        text: text.spec(false),
        networks,
        vae,
        scheduler: scheduler_spec(folder, index.scheduler)?,
        defaults,
    })
}

/// Returns the defaults of diffusers' pipelines with a UNet.
pub(crate) fn unet_defaults(guidance: f64) -> Defaults {
    Defaults {
        steps: 50,
        guidance,
    }
}

fn sdxl(folder: Folder<'_>, index: &Index, unet: UNetConfig) -> Result<SdxlSpec, Error> {
    if index.requires_aesthetics_score {
        let message = "requires_aesthetics_score: a refiner is not supported";
        return Err(folder.bad(INDEX, message));
    }
    let text = text::encoder(folder, "text_encoder_2")?;
    Ok(SdxlSpec {
        unet: unet.spec(),
        tokenizer_2: text::tokenizer(folder, "tokenizer_2", text.max_position_embeddings)?,
        text_2: text.spec(true),
        force_zeros_for_empty_prompt: index.force_zeros_for_empty_prompt.unwrap_or(true),
    })
}

/// Returns the sizes around the side of the training pictures.
fn sizes_of(vae: &VaeSpec, unet: &UNetConfig) -> ImageSizes {
    let cells = unet.sample_size.clamp(1, 512);
    sizes(cells.saturating_mul(vae.downsampling()), vae.downsampling())
}

/// Returns the sizes from half to twice the side of the training pictures. `cell`: pixels along the
/// side of a latent cell.
pub(crate) fn sizes(default: u32, cell: u32) -> ImageSizes {
    ImageSizes {
        default,
        min: (default / 2).max(1),
        max: default.saturating_mul(2).min(1 << 13),
        multiple_of: cell.max(8),
    }
}

/// Reads the scheduler's config, as one of the class that the index names.
fn scheduler_spec(
    folder: Folder<'_>,
    named: Option<(String, String)>,
) -> Result<SchedulerSpec, Error> {
    let config: Map<String, Value> = folder.json(SCHEDULER)?;
    let own = || Some(config.get("_class_name")?.as_str()?.to_owned());
    let class = named
        .map(|(_, class)| class)
        .or_else(own)
        .unwrap_or_default();
    let read = scheduler::read(&class, &config);
    read.map(|(_, spec)| spec)
        .map_err(|message| folder.bad(SCHEDULER, message))
}

/// Reads the scheduler of a class and a config, for tests.
#[cfg(test)]
pub(crate) fn scheduler_of(
    class: &str,
    config: &str,
) -> Result<(SchedulerKind, SchedulerSpec), String> {
    let config = serde_json::from_str(config).map_err(|error| error.to_string())?;
    scheduler::read(class, &config)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_index_names_the_scheduler() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("scheduler")).unwrap();
        let config = r#"{"_class_name": "PNDMScheduler", "beta_start": 0.001, "beta_end": 0.01,
            "beta_schedule": "linear", "lambda_min_clipped": -Infinity}"#;
        std::fs::write(folder.path().join(SCHEDULER), config).unwrap();
        let read = |class: Option<&str>| {
            let named = class.map(|class| ("diffusers".to_owned(), class.to_owned()));
            let folder = Folder {
                path: folder.path(),
                model: "a",
            };
            scheduler_spec(folder, named)
        };
        let spec = read(Some("EulerDiscreteScheduler")).unwrap();
        assert_eq!(spec.default, SchedulerKind::Euler);
        assert_eq!(spec.steps_offset, 1);
        // Its own class needs a setting that it does not have.
        assert!(
            read(None)
                .unwrap_err()
                .to_string()
                .contains("skip_prk_steps")
        );
        assert!(read(Some("DEISMultistepScheduler")).is_err());
    }
}
