//! A caller's request.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::error::Error;
use crate::latents::Latents;
use crate::manifest::Manifest;
use crate::mask::Mask;
use crate::picture::Picture;
use crate::scheduler::SchedulerKind;

/// A request. `None` takes the model's default.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The prompt.
    pub prompt: String,
    /// The negative prompt, without effect for FLUX.1; by default the model's way to have none,
    /// usually an empty prompt.
    pub negative_prompt: Option<String>,
    /// Pixels.
    pub width: Option<u32>,
    /// Pixels.
    pub height: Option<u32>,
    /// Denoising steps; more are slower and, up to about 30, better.
    pub steps: Option<u32>,
    /// Weight of the prompt over the negative prompt; 1 or less calls the UNet half as often. For
    /// FLUX.1 an input of the network, or without effect.
    pub guidance: Option<f64>,
    /// The seed. It gives the same picture on the same device. Picture *i* of several is that of
    /// seed + *i* alone.
    pub seed: u64,
    /// Number of pictures, generated one after the other.
    pub num_images: u32,
    /// Name of a [`SchedulerKind`] that the model's manifest allows.
    pub scheduler: Option<String>,
    /// The picture to start from, of any size: it is stretched to the output's size.
    pub image: Option<Picture>,
    /// Where `image` is redrawn, of any size: it is stretched to the output's size. By default
    /// everywhere.
    pub mask: Option<Mask>,
    /// How much of `image` is redrawn, above 0 and up to 1: the fraction of the steps that run, at
    /// least one. 0.8 by default, 1 with a mask; has no effect without an image.
    pub strength: Option<f64>,
    /// Noise of variance 1 to start from, for one picture; drawn from the seed by default. It
    /// determines the picture's size, unless that is given.
    pub latents: Option<Latents>,
    /// Whether the [`Observer`](crate::Observer) receives previews.
    pub previews: bool,
    /// LoRAs, added in this order.
    pub loras: Vec<Lora>,
}

/// A LoRA for one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// A safetensors file with PEFT's or kohya's names, or the published ones.
    pub path: PathBuf,
    /// What errors call it.
    pub name: String,
    /// Factor of its effect; 1 is what it was trained for.
    pub scale: f64,
}

impl Lora {
    /// Creates a LoRA that errors call by its file's name.
    pub fn new(path: impl Into<PathBuf>, scale: f64) -> Self {
        let path = path.into();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self {
            name: name.into_owned(),
            path,
            scale,
        }
    }
}

impl Default for Request {
    /// Creates one picture without a prompt, from seed 0.
    fn default() -> Request {
        Request {
            prompt: String::new(),
            negative_prompt: None,
            width: None,
            height: None,
            steps: None,
            guidance: None,
            seed: 0,
            num_images: 1,
            scheduler: None,
            image: None,
            mask: None,
            strength: None,
            latents: None,
            previews: false,
            loras: Vec::new(),
        }
    }
}

/// A request with all defaults filled in, within the model's limits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub prompt: String,
    pub negative_prompt: Option<String>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    pub steps: u32,
    pub guidance: f64,
    /// Whether guidance compares with a negative prompt, if it is above 1.
    pub has_negative_prompt: bool,
    pub seed: u64,
    pub num_images: u32,
    pub scheduler: SchedulerKind,
    /// Fraction of the steps that run, if there is a picture to start from.
    pub strength: Option<f64>,
    pub previews: bool,
}

/// What a request costs on its device: determines its time and its memory beside the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Steps that run, for each picture.
    pub steps: u32,
    /// Pictures, generated one after the other.
    pub num_images: u32,
    /// Whether each step also computes a negative prompt, in one batch with the prompt.
    pub is_guided: bool,
}

impl Workload {
    /// Returns the pixels of one picture.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Returns pixels × steps × pictures.
    pub fn pixel_steps(&self) -> u64 {
        let steps = u64::from(self.steps) * u64::from(self.num_images);
        self.pixels().saturating_mul(steps)
    }
}

impl Plan {
    fn workload(&self) -> Workload {
        // At most the schedule's own count: 1 is the largest strength.
        let steps = f64::from(self.steps) * self.strength.unwrap_or(1.0);
        Workload {
            width: self.width,
            height: self.height,
            steps: (steps.ceil() as u32).clamp(1, self.steps.max(1)),
            num_images: self.num_images,
            is_guided: self.has_negative_prompt && self.guidance > 1.0,
        }
    }
}

/// Length limit of a prompt, bytes. It is cut to some tens of tokens anyway.
const MAX_PROMPT_BYTES: usize = 16 << 10;
const IMAGES: RangeInclusive<u32> = 1..=16;
const GUIDANCE: RangeInclusive<f64> = 0.0..=100.0;
const STRENGTH: f64 = 0.8;
const STRENGTH_OF_MASK: f64 = 1.0;

impl Request {
    /// Checks whether the model supports the request, and returns what it costs; cheap, so that an
    /// invalid request is rejected before a load.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for the first field at fault.
    pub fn check(&self, manifest: &Manifest) -> Result<Workload, Error> {
        self.plan(manifest).map(|plan| plan.workload())
    }

    pub(crate) fn plan(&self, manifest: &Manifest) -> Result<Plan, Error> {
        let scheduler = scheduler(self.scheduler.as_deref(), manifest)?;
        self.check_mask(manifest)?;
        let strength = match &self.image {
            Some(image) => Some(self.strength_on(image, scheduler)?),
            None => None,
        };
        let (width, height) = self.default_size(manifest);
        let width = side("width", self.width.unwrap_or(width), manifest)?;
        let height = side("height", self.height.unwrap_or(height), manifest)?;
        self.check_latents(width, height, manifest)?;
        Ok(Plan {
            prompt: prompt("prompt", &self.prompt)?,
            negative_prompt: (self.negative_prompt.as_deref())
                .map(|negative| prompt("negative_prompt", negative))
                .transpose()?,
            width,
            height,
            steps: within(
                "steps",
                self.steps.unwrap_or(manifest.defaults.steps),
                &scheduler.steps(),
            )?,
            guidance: within(
                "guidance",
                self.guidance.unwrap_or(manifest.defaults.guidance),
                &GUIDANCE,
            )?,
            has_negative_prompt: manifest.networks.has_negative_prompt(),
            seed: self.seed,
            num_images: within("num_images", self.num_images, &IMAGES)?,
            scheduler,
            strength,
            previews: self.previews,
        })
    }

    fn check_mask(&self, manifest: &Manifest) -> Result<(), Error> {
        match (&self.image, &self.mask) {
            (None, Some(_)) => Err(Error::invalid("image", "missing: a mask needs a picture")),
            (_, Some(mask)) if !mask.is_whole() => {
                Err(Error::invalid("mask", "not width × height pixels"))
            }
            (_, None) if manifest.networks.takes_mask() => {
                let message = "missing: this model redraws a part of a picture; give it a picture \
                               and a mask";
                Err(Error::invalid("mask", message))
            }
            _ => Ok(()),
        }
    }

    fn strength_on(&self, image: &Picture, scheduler: SchedulerKind) -> Result<f64, Error> {
        if !image.is_whole() {
            return Err(Error::invalid(
                "image",
                "not width × height pixels of 3 bytes",
            ));
        }
        if !scheduler.supports_image() {
            let message = format!("{scheduler} cannot start from a picture");
            return Err(Error::invalid("scheduler", message));
        }
        let strength = self.strength.unwrap_or(match self.mask {
            Some(_) => STRENGTH_OF_MASK,
            None => STRENGTH,
        });
        if strength > 0.0 && strength <= 1.0 {
            return Ok(strength);
        }
        let message = format!("{strength} must be greater than 0 and at most 1");
        Err(Error::invalid("strength", message))
    }

    fn check_latents(&self, width: u32, height: u32, manifest: &Manifest) -> Result<(), Error> {
        let Some(latents) = &self.latents else {
            return Ok(());
        };
        if self.num_images != 1 {
            let message = "they are those of one picture: set num_images to 1";
            return Err(Error::invalid("latents", message));
        }
        let cell = i64::from(manifest.vae.downsampling());
        let (rows, columns) = (i64::from(height) / cell, i64::from(width) / cell);
        let needed = [1, manifest.vae.latent_channels, rows, columns];
        if latents.shape() == needed {
            return Ok(());
        }
        let message = format!(
            "their shape is {:?}, but {width} x {height} pixels need {needed:?}",
            latents.shape()
        );
        Err(Error::invalid("latents", message))
    }

    /// Returns the default width and height: the model's; those of the latents; with an image, its
    /// proportions and as many pixels as the model draws by default.
    fn default_size(&self, manifest: &Manifest) -> (u32, u32) {
        let sizes = &manifest.image;
        let usual = f64::from(sizes.default);
        if let Some((rows, columns)) = self.latents.as_ref().and_then(Latents::cells) {
            let cell = manifest.vae.downsampling();
            return (columns.saturating_mul(cell), rows.saturating_mul(cell));
        }
        let Some(image) = &self.image else {
            return (sizes.default, sizes.default);
        };
        let ratio = f64::from(image.width) / f64::from(image.height);
        let (width, height) = match (self.width, self.height) {
            (_, Some(height)) => (f64::from(height) * ratio, usual),
            (Some(width), None) => (usual, f64::from(width) / ratio),
            (None, None) => (usual * ratio.sqrt(), usual / ratio.sqrt()),
        };
        let fitted = |side: f64| {
            let unit = sizes.multiple_of.max(1);
            let units = (side / f64::from(unit)).round() as u32;
            let (fewest, most) = (sizes.min.div_ceil(unit), sizes.max / unit);
            units.min(most).max(fewest) * unit
        };
        (fitted(width), fitted(height))
    }
}

fn prompt(field: &'static str, text: &str) -> Result<String, Error> {
    if text.len() > MAX_PROMPT_BYTES {
        let message = format!("{} bytes; the limit is {MAX_PROMPT_BYTES}", text.len());
        return Err(Error::invalid(field, message));
    }
    Ok(text.to_owned())
}

fn side(field: &'static str, pixels: u32, manifest: &Manifest) -> Result<u32, Error> {
    let sizes = &manifest.image;
    let pixels = within(field, pixels, &(sizes.min..=sizes.max))?;
    if pixels % sizes.multiple_of != 0 {
        return Err(Error::invalid(
            field,
            format!("{pixels} is not a multiple of {}", sizes.multiple_of),
        ));
    }
    Ok(pixels)
}

fn scheduler(name: Option<&str>, manifest: &Manifest) -> Result<SchedulerKind, Error> {
    let allowed = &manifest.scheduler.allowed;
    let Some(name) = name else {
        return Ok(manifest.scheduler.default);
    };
    let found = allowed.iter().find(|kind| kind.name() == name);
    found.copied().ok_or_else(|| {
        let allowed: Vec<&str> = allowed.iter().map(|kind| kind.name()).collect();
        let message = format!(
            "{name:?} is not one of {}, which this model allows",
            allowed.join(", ")
        );
        Error::invalid("scheduler", message)
    })
}

fn within<T: PartialOrd + std::fmt::Display>(
    field: &'static str,
    value: T,
    range: &RangeInclusive<T>,
) -> Result<T, Error> {
    // A NaN is in no range.
    if range.contains(&value) {
        return Ok(value);
    }
    Err(Error::invalid(
        field,
        format!("{value} is not in {} to {}", range.start(), range.end()),
    ))
}

impl Plan {
    /// Returns whether the negative prompt has an effect.
    pub(crate) fn guided(&self) -> bool {
        self.has_negative_prompt && self.guidance > 1.0
    }

    /// Returns the number of skipped steps, which the picture to start from replaces. At least one
    /// step runs.
    pub(crate) fn skipped_steps(&self) -> u32 {
        let Some(strength) = self.strength else {
            return 0;
        };
        let taken = f64::from(self.steps) * strength;
        // diffusers' pipelines round differently.
        let skipped = match self.scheduler {
            SchedulerKind::FlowMatchEuler => (f64::from(self.steps) - taken) as u32,
            _ => self.steps - (taken as u32).min(self.steps),
        };
        skipped.min(self.steps.saturating_sub(1))
    }

    /// Returns the seed of a picture.
    pub(crate) fn seed_of(&self, index: u32) -> u64 {
        self.seed.wrapping_add(u64::from(index))
    }
}
