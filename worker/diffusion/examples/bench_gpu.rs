//! Times the engine, and Python's diffusers on the same folders and device.
//!
//! ```sh
//! cargo run --release -p warmq-diffusion --example bench_gpu -- \
//!     --device auto --python .venv/bin/python
//! ```
//!
//! Prints a Markdown table: an included model, and one of Stable Diffusion 1.5's size with random
//! weights, written to a temporary folder first (2 GB). `warmq / diffusers` below 1 means that this
//! engine is faster. Both are warmed up first, and wait for the device after every step, so that
//! steps measure execution, not submission.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{fs, iter};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};
use warmq_diffusion::{Catalog, Device, Observer, Pipeline, Request, write_random_weights};

#[derive(Parser)]
struct Options {
    /// cpu, cuda:<index>, or auto: the first GPU if there is one.
    #[arg(long, default_value = "auto")]
    device: String,
    /// The folder of the included models.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models"))]
    models: PathBuf,
    /// Only the model of this size.
    #[arg(long)]
    only: Option<Size>,
    #[arg(long, default_value_t = 20)]
    steps: u32,
    /// Pixels along a side [default: the model's].
    #[arg(long)]
    side: Option<u32>,
    /// Threads per tensor operation on the CPU, for both engines.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A Python with torch, diffusers and transformers, to compare with.
    #[arg(long)]
    python: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Size {
    Tiny,
    Sd15,
}

/// Times of one engine. peer.py prints the same fields.
#[derive(Deserialize)]
struct Timing {
    load_s: f64,
    step_s: f64,
    picture_s: f64,
    peak_bytes: u64,
}

/// Records when each step started.
struct Clock {
    device: Device,
    began: Vec<Instant>,
}

impl Observer for Clock {
    fn step(&mut self, _step: u32, _steps: u32) -> ControlFlow<()> {
        self.device.synchronize();
        self.began.push(Instant::now());
        ControlFlow::Continue(())
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let device = Device::parse(&options.device)?;
    warmq_diffusion::set_threads(options.threads);
    let scratch = tempfile::tempdir()?;
    println!(
        "{} ({device}), {} steps, medians of 3 pictures\n",
        device.name(),
        options.steps
    );
    println!("| model | engine | load s | s / step | s / picture | peak MiB |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for size in [Size::Tiny, Size::Sd15] {
        if options.only.is_some_and(|only| only != size) {
            continue;
        }
        let (models, name) = match size {
            Size::Tiny => (options.models.as_path(), "shapes"),
            Size::Sd15 => (scratch.path(), "sd15-random"),
        };
        if size == Size::Sd15 {
            write_sd15(&models.join(name), &options.models.join("shapes/tokenizer"))?;
        }
        compare(&options, device, models, name)?;
    }
    Ok(())
}

fn compare(options: &Options, device: Device, models: &Path, name: &str) -> anyhow::Result<()> {
    let ours = time(options, device, models, name)?;
    row(name, "warmq", &ours);
    let Some(python) = &options.python else {
        return Ok(());
    };
    let theirs = time_peer(options, device, python, &models.join(name))?;
    row(name, "diffusers", &theirs);
    let ratio = |ours: f64, theirs: f64| format!("{:.2}", ours / theirs);
    println!(
        "| {name} | warmq / diffusers | {} | {} | {} | {} |",
        ratio(ours.load_s, theirs.load_s),
        ratio(ours.step_s, theirs.step_s),
        ratio(ours.picture_s, theirs.picture_s),
        ratio(ours.peak_bytes as f64, theirs.peak_bytes as f64),
    );
    Ok(())
}

fn row(name: &str, engine: &str, timing: &Timing) {
    let Timing {
        load_s,
        step_s,
        picture_s,
        peak_bytes,
    } = timing;
    println!(
        "| {name} | {engine} | {load_s:.2} | {step_s:.4} | {picture_s:.3} | {} |",
        peak_bytes >> 20
    );
}

fn time(options: &Options, device: Device, models: &Path, name: &str) -> anyhow::Result<Timing> {
    let manifest = Catalog::open(models)?.manifest(name)?;
    device.release_unused_memory();
    let start = Instant::now();
    let pipeline = Pipeline::load(&manifest, &device, &mut |_| {})?;
    device.synchronize();
    let load_s = start.elapsed().as_secs_f64();

    let request = Request {
        prompt: "a red circle on a blue background".to_owned(),
        steps: Some(options.steps),
        guidance: Some(7.5),
        scheduler: Some("ddim".to_owned()),
        width: options.side,
        height: options.side,
        ..Request::default()
    };
    pipeline.generate(
        &Request {
            steps: Some(2),
            ..request.clone()
        },
        &mut (),
    )?;
    device.reset_peak_memory();
    let (mut steps, mut pictures) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut clock = Clock {
            device,
            began: Vec::new(),
        };
        let start = Instant::now();
        pipeline.generate(&request, &mut clock)?;
        pictures.push(start.elapsed().as_secs_f64());
        let pairs = clock.began.iter().zip(clock.began.iter().skip(1));
        steps.extend(pairs.map(|(one, next)| (*next - *one).as_secs_f64()));
    }
    Ok(Timing {
        load_s,
        step_s: median(steps),
        picture_s: median(pictures),
        peak_bytes: device.memory().map_or(0, |memory| memory.peak_bytes),
    })
}

fn time_peer(
    options: &Options,
    device: Device,
    python: &Path,
    model: &Path,
) -> anyhow::Result<Timing> {
    let mut command = Command::new(python);
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/peer.py"))
        .arg(model);
    command.args([
        "--device",
        &device.to_string(),
        "--steps",
        &options.steps.to_string(),
    ]);
    command.args(["--threads", &options.threads.to_string()]);
    command.args(
        options
            .side
            .into_iter()
            .flat_map(|side| ["--side".to_owned(), side.to_string()]),
    );
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", python.display()))?;
    if !output.status.success() {
        bail!(
            "peer.py failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().last().context("peer.py printed nothing")?;
    serde_json::from_str(line).context("peer.py printed something else than its timing")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Writes a folder in Hugging Face's layout, of Stable Diffusion 1.5's sizes, in half precision.
fn write_sd15(folder: &Path, tokenizer: &Path) -> anyhow::Result<()> {
    for (file, config) in sd15_configs() {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().context("every file is in a folder")?)?;
        fs::write(path, config.to_string())?;
    }
    for file in ["vocab.json", "merges.txt"] {
        fs::copy(tokenizer.join(file), folder.join("tokenizer").join(file))
            .with_context(|| format!("no {file} in {}", tokenizer.display()))?;
    }
    let models = folder
        .parent()
        .context("a model is in a folder of models")?;
    let name = folder.file_name().and_then(|name| name.to_str());
    let manifest = Catalog::open(models)?.manifest(name.context("a model has a name")?)?;
    Ok(write_random_weights(&manifest, 49408, 0)?)
}

/// Returns the config files of Stable Diffusion 1.5, by path.
fn sd15_configs() -> [(&'static str, Value); 6] {
    let down: Vec<&str> = iter::repeat_n("CrossAttnDownBlock2D", 3)
        .chain(["DownBlock2D"])
        .collect();
    let up: Vec<&str> = iter::once("UpBlock2D")
        .chain(iter::repeat_n("CrossAttnUpBlock2D", 3))
        .collect();
    let (encoder, decoder) = (["DownEncoderBlock2D"; 4], ["UpDecoderBlock2D"; 4]);
    [
        (
            "model_index.json",
            json!({
                "_class_name": "StableDiffusionPipeline",
                "feature_extractor": [null, null], "safety_checker": [null, null], "image_encoder": [null, null],
                "requires_safety_checker": false,
                "scheduler": ["diffusers", "DDIMScheduler"],
                "text_encoder": ["transformers", "CLIPTextModel"],
                "tokenizer": ["transformers", "CLIPTokenizer"],
                "unet": ["diffusers", "UNet2DConditionModel"],
                "vae": ["diffusers", "AutoencoderKL"]
            }),
        ),
        (
            "text_encoder/config.json",
            json!({
                "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "dtype": "float16",
                "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                "num_attention_heads": 12, "max_position_embeddings": 77, "hidden_act": "quick_gelu"
            }),
        ),
        (
            "unet/config.json",
            json!({
                "_class_name": "UNet2DConditionModel", "sample_size": 64, "in_channels": 4, "out_channels": 4,
                "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2,
                "down_block_types": down, "up_block_types": up,
                "attention_head_dim": 8, "cross_attention_dim": 768
            }),
        ),
        (
            "vae/config.json",
            json!({
                "_class_name": "AutoencoderKL", "sample_size": 512, "latent_channels": 4,
                "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "norm_num_groups": 32,
                "down_block_types": encoder, "up_block_types": decoder
            }),
        ),
        (
            "scheduler/scheduler_config.json",
            json!({
                "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
                "beta_schedule": "scaled_linear", "clip_sample": false, "set_alpha_to_one": false,
                "steps_offset": 1
            }),
        ),
        (
            "tokenizer/tokenizer_config.json",
            json!({
                "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": "<|startoftext|>",
                "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"
            }),
        ),
    ]
}
