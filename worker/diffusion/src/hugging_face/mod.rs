//! Derives a manifest from a bare Hugging Face folder: `model_index.json` and the components'
//! configs, as `save_pretrained` writes them. Missing values take Hugging Face's defaults. Every
//! other key of a config changes nothing, or refuses the model by name.

mod allowed;
mod components;
pub(crate) mod defaults;
mod flow_match;
mod flux;
mod folder;
mod keys;
mod scheduler;
mod text;
mod unet;
mod vae;

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::manifest::{
    Defaults, FluxSpec, FluxTransformerSpec, ImageSizes, Manifest, Networks, SchedulerSpec, SdSpec,
    SdxlSpec, VaeSpec,
};
#[cfg(test)]
use crate::scheduler::SchedulerKind;
pub(crate) use folder::Folder;
pub(crate) use keys::in_configs;
#[cfg(test)]
use scheduler::FLOW_MATCH;
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
    /// Of Stable Diffusion XL; null is false, as in Python.
    #[serde(default = "zeros")]
    force_zeros_for_empty_prompt: Option<bool>,
    /// Of Stable Diffusion XL's refiner.
    #[serde(default)]
    requires_aesthetics_score: bool,
}

fn zeros() -> Option<bool> {
    Some(true)
}

/// A family of models.
#[derive(Debug, Clone, Copy)]
enum Family {
    Sd,
    Xl,
    Flux,
}

/// The pipeline of Stable Diffusion that changes fewer settings of its scheduler.
const INPAINTING: &str = "StableDiffusionInpaintPipeline";

/// The families by the classes of their pipelines: the tasks of a checkpoint do not differ in its
/// files.
const CLASSES: [(&str, Family); 9] = [
    ("StableDiffusionPipeline", Family::Sd),
    ("StableDiffusionImg2ImgPipeline", Family::Sd),
    (INPAINTING, Family::Sd),
    ("StableDiffusionXLPipeline", Family::Xl),
    ("StableDiffusionXLImg2ImgPipeline", Family::Xl),
    ("StableDiffusionXLInpaintPipeline", Family::Xl),
    ("FluxPipeline", Family::Flux),
    ("FluxImg2ImgPipeline", Family::Flux),
    ("FluxInpaintPipeline", Family::Flux),
];

/// Guidance of diffusers' pipelines.
pub(crate) const GUIDANCE_OF_SD: f64 = 7.5;
pub(crate) const GUIDANCE_OF_XL: f64 = 5.0;

/// Derives the manifest of a bare folder.
pub(crate) fn derive(path: &Path, model: &str) -> Result<Manifest, Error> {
    let folder = Folder {
        path,
        model,
        parts: None,
    };
    let entries: Map<String, Value> = folder.json(INDEX)?;
    let refused = |message: String| folder.bad(INDEX, message);
    let index: Index = keys::parsed(&entries).map_err(refused)?;
    let family = family(folder, &index.class_name)?;
    components::check(&entries, family).map_err(refused)?;
    let scheduler = scheduler_spec(folder, index.scheduler.as_ref())?;
    let scheduler = as_set_by_pipeline(scheduler, family, &index.class_name);
    let vae = vae::vae(folder)?;
    match family {
        Family::Sd => {
            let unet = unet::unet(folder)?;
            let image = sizes_of(&vae, &unet);
            let networks = Networks::Sd(SdSpec { unet: unet.spec() });
            let defaults = defaults::of_unet(GUIDANCE_OF_SD, &scheduler, model);
            assembled(folder, networks, vae, scheduler, (image, defaults))
        }
        Family::Xl => {
            let unet = unet::unet(folder)?;
            let image = sizes_of(&vae, &unet);
            let networks = Networks::Sdxl(Box::new(sdxl(folder, &index, unet)?));
            let defaults = defaults::of_unet(GUIDANCE_OF_XL, &scheduler, model);
            assembled(folder, networks, vae, scheduler, (image, defaults))
        }
        Family::Flux => flux_manifest(folder, flux::transformer(folder)?, vae, scheduler),
    }
}

/// Derives the manifest of a transformer of FLUX.1 in a single file from the configs of the other
/// parts. Its own config and the scheduler's, if they exist, precede `transformer` and the
/// published scheduler.
pub(crate) fn derive_flux(
    folder: Folder<'_>,
    transformer: FluxTransformerSpec,
) -> Result<Manifest, Error> {
    let transformer = match folder.exists(flux::TRANSFORMER) {
        true => flux::transformer(folder)?,
        false => transformer,
    };
    let scheduler = match folder.exists(SCHEDULER) {
        true => scheduler_spec(folder, None)?,
        false => SchedulerSpec::of_flow(flux::published_flow(&transformer)),
    };
    flux_manifest(folder, transformer, vae::vae(folder)?, scheduler)
}

fn flux_manifest(
    folder: Folder<'_>,
    transformer: FluxTransformerSpec,
    vae: VaeSpec,
    scheduler: SchedulerSpec,
) -> Result<Manifest, Error> {
    let requests = (flux::sizes(&vae), flux::defaults(&transformer));
    let t5 = flux::t5(folder, &transformer)?;
    let networks = Networks::Flux(Box::new(FluxSpec { transformer, t5 }));
    assembled(folder, networks, vae, scheduler, requests)
}

fn family(folder: Folder<'_>, class: &str) -> Result<Family, Error> {
    let found = CLASSES.iter().find(|(known, _)| *known == class);
    found.map(|(_, family)| *family).ok_or_else(|| {
        let known = CLASSES.map(|(class, _)| class).join(", ");
        let message = format!("_class_name: {class} is not supported, only {known}");
        folder.bad(INDEX, message)
    })
}

/// Reads the configs that all families have.
fn assembled(
    folder: Folder<'_>,
    networks: Networks,
    vae: VaeSpec,
    scheduler: SchedulerSpec,
    (image, defaults): (ImageSizes, Defaults),
) -> Result<Manifest, Error> {
    let text = text::encoder(folder, "text_encoder")?;
    Ok(Manifest {
        schema: 1,
        name: folder.model.to_owned(),
        revision: String::new(),
        license: String::new(),
        files: Vec::new(),
        vram_bytes_estimate: None,
        folder: folder.path.to_owned(),
        single_file: None,
        dtype: text.stored_dtype(),
        image,
        tokenizer: text::tokenizer(folder, "tokenizer", text.max_position_embeddings)?,
        text: text.spec(false),
        networks,
        vae,
        scheduler,
        defaults,
    })
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
        force_zeros_for_empty_prompt: index.force_zeros_for_empty_prompt == Some(true),
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
    named: Option<&(String, String)>,
) -> Result<SchedulerSpec, Error> {
    let config: Map<String, Value> = folder.json(SCHEDULER)?;
    let own = || Some(config.get("_class_name")?.as_str()?.to_owned());
    let class = named
        .map(|(_, class)| class.clone())
        .or_else(own)
        .unwrap_or_default();
    let read = scheduler::read(&class, &config);
    read.map(|(_, spec)| spec)
        .map_err(|message| folder.bad(SCHEDULER, message))
}

/// Returns a scheduler with the settings that Python's pipeline `class` changes.
fn as_set_by_pipeline(scheduler: SchedulerSpec, family: Family, class: &str) -> SchedulerSpec {
    match family {
        Family::Sd if class == INPAINTING => SchedulerSpec {
            steps_offset: 1,
            ..scheduler
        },
        Family::Sd => SchedulerSpec {
            steps_offset: 1,
            clip_sample: None,
            ..scheduler
        },
        Family::Xl | Family::Flux => scheduler,
    }
}

/// Reads the scheduler of a class and a config, with Stable Diffusion's offset and without bound
/// unless the config has them, for tests.
#[cfg(test)]
pub(crate) fn scheduler_of(
    class: &str,
    config: &str,
) -> Result<(SchedulerKind, SchedulerSpec), String> {
    let mut config: Map<String, Value> =
        serde_json::from_str(config).map_err(|error| error.to_string())?;
    if class != FLOW_MATCH {
        config.entry("steps_offset").or_insert(1.into());
        config.entry("clip_sample").or_insert(false.into());
    }
    scheduler::read(class, &config)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn pipelines_of_stable_diffusion_change_their_scheduler_and_those_of_xl_do_not() {
        let config = r#"{"beta_start": 0.001, "beta_end": 0.01, "beta_schedule": "linear",
            "steps_offset": 0, "clip_sample": true}"#;
        let (_, spec) = scheduler_of("DDIMScheduler", config).unwrap();
        for (family, class, steps_offset, clip_sample) in [
            (Family::Sd, "StableDiffusionPipeline", 1, None),
            (Family::Sd, "StableDiffusionImg2ImgPipeline", 1, None),
            (Family::Sd, INPAINTING, 1, Some(1.0)),
            (Family::Xl, "StableDiffusionXLPipeline", 0, Some(1.0)),
            (Family::Xl, "StableDiffusionXLInpaintPipeline", 0, Some(1.0)),
        ] {
            let set = as_set_by_pipeline(spec.clone(), family, class);
            assert_eq!(set.steps_offset, steps_offset, "{class}");
            assert_eq!(set.clip_sample, clip_sample, "{class}");
        }
    }

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
                parts: None,
            };
            scheduler_spec(folder, named.as_ref())
        };
        let spec = read(Some("EulerDiscreteScheduler")).unwrap();
        assert_eq!(spec.default, SchedulerKind::Euler);
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
