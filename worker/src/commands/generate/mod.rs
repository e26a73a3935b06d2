//! `warmq-worker generate`: one picture without a queue, as the diffusion engine draws it.

mod progress;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use warmq_diffusion::{Catalog, Device, Latents, Picture, Pipeline, Request};

use self::progress::{Progress, Steps};
use crate::engine::diffusion::output::truncation_note;
use crate::engine::diffusion::{picture, set_threads};
use crate::engine::picture::OutputFormat;

/// Options of `generate`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Folder with one folder per model
    #[arg(
        long,
        env = "WARMQ_MODELS",
        value_name = "FOLDER",
        default_value = "./models"
    )]
    pub models: PathBuf,
    /// The model, a folder's name
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// The prompt: the content of the picture
    #[arg(long, value_name = "TEXT")]
    pub prompt: String,
    /// The negative prompt: content to avoid
    #[arg(long, value_name = "TEXT")]
    pub negative: Option<String>,
    /// Denoising steps [default: the model's]
    #[arg(long, value_name = "N")]
    pub steps: Option<u32>,
    /// How closely the picture follows the prompt [default: the model's]
    #[arg(long, value_name = "NUMBER")]
    pub guidance: Option<f64>,
    /// The same seed gives the same picture [default: a random one, which is printed]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// The sampler: ddim, euler, … [default: the model's]
    #[arg(long, value_name = "NAME")]
    pub scheduler: Option<String>,
    /// Width in pixels [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    pub width: Option<u32>,
    /// Height in pixels [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    pub height: Option<u32>,
    /// A picture to start from: PNG, JPEG or WebP
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// The part of the picture to redraw: white in a picture of the same kinds
    #[arg(long, value_name = "FILE", requires = "image")]
    pub mask: Option<PathBuf>,
    /// How much of the picture is redrawn, above 0 and up to 1 [default: 0.8, 1 with a mask]
    #[arg(long, value_name = "NUMBER", requires = "image")]
    pub strength: Option<f64>,
    /// LoRA weights and their scale; repeatable [default scale: 1]
    #[arg(long, value_name = "PATH[:SCALE]")]
    pub lora: Vec<Lora>,
    /// Device: auto (a GPU if there is one), cpu, cuda:0
    #[arg(
        long,
        env = "WARMQ_DEVICE",
        value_name = "DEVICE",
        default_value = "auto"
    )]
    pub device: String,
    /// Noise of variance 1 to start from, [1, channels, height/8, width/8]: the tensor `latents` of
    /// a safetensors file, as Python's diffusers takes it
    #[arg(long, value_name = "FILE")]
    pub latents: Option<PathBuf>,
    /// Writes the final latents, before decoding, to a safetensors file
    #[arg(long, value_name = "FILE")]
    pub dump: Option<PathBuf>,
    /// The picture's file: .png, .jpg, .jpeg or .webp
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// LoRA weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// The file.
    pub path: String,
    /// Weight of the change.
    pub scale: f64,
}

impl std::str::FromStr for Lora {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':');
        let scaled = parts.and_then(|(path, scale)| Some((path, scale.parse().ok()?)));
        let (path, scale) = scaled.unwrap_or((text, 1.0));
        match path.is_empty() || !f64::is_finite(scale) {
            true => Err(format!("'{text}' is not PATH or PATH:SCALE")),
            false => Ok(Self {
                path: path.to_owned(),
                scale,
            }),
        }
    }
}

/// Generates the picture and writes the files.
///
/// # Errors
/// An option is wrong, a file cannot be read or written, or the model cannot draw the picture.
pub fn run(args: Args) -> anyhow::Result<()> {
    let format = output_format(&args.out)?;
    let request = request(&args)?;
    let manifest = Catalog::open(&args.models)?.manifest(&args.model)?;
    // Before a load of seconds.
    request.check(&manifest)?;
    let device = Device::parse(&args.device)?;
    if std::env::var_os("OMP_NUM_THREADS").is_none() {
        set_threads(&manifest);
    }

    let mut progress = Progress::start();
    let begun = Instant::now();
    let mut loaded = |step| progress.loading(&args.model, step);
    let pipeline = Pipeline::load(&manifest, &device, &mut loaded)?;
    let load_time = begun.elapsed();

    let begun = Instant::now();
    let mut steps = Steps::new(&mut progress);
    let pictures = pipeline.generate(&request, &mut steps)?;
    let run_time = begun.elapsed();
    let latents = steps.latents;
    progress.end();

    for truncation in pipeline.truncations(&request)? {
        eprintln!("note: {}", truncation_note(&truncation));
    }
    let picture = pictures.first().context("the model drew no picture")?;
    let file = picture::encode(picture, format).map_err(|fault| anyhow::anyhow!(fault.message))?;
    write(&args.out, &file)?;
    if let (Some(path), Some(latents)) = (&args.dump, latents) {
        write(path, &latents.to_safetensors()?)?;
    }
    println!(
        "{}",
        summary(&args.out, picture, request.seed, load_time, run_time)
    );
    Ok(())
}

/// Builds the pipeline's request.
fn request(args: &Args) -> anyhow::Result<Request> {
    let image = args.image.as_deref().map(|path| {
        picture::read(&read(path)?).with_context(|| format!("--image: {}", path.display()))
    });
    let mask = args.mask.as_deref().map(|path| {
        picture::read_mask(&read(path)?).with_context(|| format!("--mask: {}", path.display()))
    });
    let loras = args.lora.iter().map(|lora| {
        let path = PathBuf::from(&lora.path);
        let found = std::fs::metadata(&path);
        found.with_context(|| format!("--lora: {} cannot be read", path.display()))?;
        Ok(warmq_diffusion::Lora::new(path, lora.scale))
    });
    let latents = args.latents.as_deref().map(|path| {
        let latents = Latents::from_safetensors(&read(path)?);
        latents.with_context(|| format!("--latents: {}", path.display()))
    });
    Ok(Request {
        prompt: args.prompt.clone(),
        negative_prompt: args.negative.clone(),
        width: args.width,
        height: args.height,
        steps: args.steps,
        guidance: args.guidance,
        seed: args.seed.unwrap_or_else(random_seed),
        scheduler: args.scheduler.clone(),
        image: image.transpose()?,
        mask: mask.transpose()?,
        loras: loras.collect::<anyhow::Result<_>>()?,
        strength: args.strength,
        latents: latents.transpose()?,
        ..Request::default()
    })
}

/// Returns a seed of 32 bits, which is easily copied.
fn random_seed() -> u64 {
    uuid::Uuid::new_v4().as_u128() as u64 & u64::from(u32::MAX)
}

fn output_format(out: &Path) -> anyhow::Result<OutputFormat> {
    let extension = out.extension().and_then(|extension| extension.to_str());
    extension
        .and_then(OutputFormat::from_extension)
        .with_context(|| {
            format!(
                "--out: '{}' ends in none of .png, .jpg, .jpeg, .webp",
                out.display()
            )
        })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("{} cannot be written", path.display()))
}

fn summary(
    out: &Path,
    picture: &Picture,
    seed: u64,
    load_time: Duration,
    run_time: Duration,
) -> String {
    format!(
        "{}: {} x {} pixels, seed {seed}, loaded in {:.1} s, drawn in {:.1} s",
        out.display(),
        picture.width,
        picture.height,
        load_time.as_secs_f64(),
        run_time.as_secs_f64(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_of_lora_weights_follows_the_last_colon() {
        let lora = |text: &str| text.parse::<Lora>().map(|lora| (lora.path, lora.scale));
        assert_eq!(
            lora("a.safetensors:0.5"),
            Ok(("a.safetensors".to_owned(), 0.5))
        );
        assert_eq!(lora("a.safetensors"), Ok(("a.safetensors".to_owned(), 1.0)));
        let url = "https://example.com/a";
        assert_eq!(lora(url), Ok((url.to_owned(), 1.0)));
        for text in ["", ":1", "a:inf"] {
            assert!(lora(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_extension_selects_the_format() {
        let format = |out: &str| output_format(Path::new(out)).map_err(|error| error.to_string());
        assert_eq!(format("a.PNG"), Ok(OutputFormat::Png));
        assert_eq!(format("a/b.jpeg"), Ok(OutputFormat::Jpeg));
        assert!(format("a.gif").unwrap_err().contains(".webp"));
        assert!(format("png").is_err());
    }
}
