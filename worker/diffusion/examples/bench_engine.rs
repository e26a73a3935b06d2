//! Times the engine beside Python's diffusers, on the same folders, device and threads.
//!
//! ```sh
//! cargo run --release -p warmq-diffusion --example bench_engine -- --python .venv/bin/python
//! ```
//!
//! Prints a Markdown table: an included model, and models of Stable Diffusion 1.5's and XL's sizes
//! with random weights, written to a temporary folder first (2 and 7 GB). `warmq / diffusers` below
//! 1 means that this engine is faster. Each round starts a new process of either engine, in turns:
//! it loads the model, whose files are in the page cache, draws one picture to warm up, and then a
//! timed one. Both wait for the device after every step, so that steps measure execution, not
//! submission.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{fs, iter};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
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
    /// Only models of these sizes.
    #[arg(long, value_delimiter = ',', default_values = ["tiny", "sd15", "sdxl"])]
    only: Vec<Size>,
    /// Steps of a picture.
    #[arg(long, default_value_t = 3)]
    steps: u32,
    /// Pixels along a side [default: the model's].
    #[arg(long)]
    side: Option<u32>,
    /// Rounds, of which medians are printed.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Threads per tensor operation on the CPU, for both engines.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
    /// A Python with torch, diffusers and transformers, to compare with.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Times this model once, in this process, and prints JSON.
    #[arg(long, hide = true)]
    once: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Size {
    Tiny,
    Sd15,
    Sdxl,
}

/// Times of one process. peer.py prints the same fields.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
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
    if let Some(model) = &options.once {
        println!("{}", serde_json::to_string(&once(&options, model)?)?);
        return Ok(());
    }
    let device = Device::parse(&options.device)?;
    let scratch = tempfile::tempdir()?;
    println!(
        "{} ({device}), {} threads, {} steps, medians of {} rounds\n",
        device.name(),
        options.threads,
        options.steps,
        options.rounds
    );
    println!("| model | engine | load s | s / step | s / picture | peak MiB |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for size in &options.only {
        let folder = match size {
            Size::Tiny => options.models.join("shapes"),
            Size::Sd15 => scratch.path().join("sd15-random"),
            Size::Sdxl => scratch.path().join("sdxl-random"),
        };
        let tokenizer = options.models.join("shapes/tokenizer");
        match size {
            Size::Tiny => {}
            Size::Sd15 => write_model(&folder, &tokenizer, sd15_configs().into())?,
            Size::Sdxl => write_model(&folder, &tokenizer, sdxl_configs())?,
        }
        compare(&options, &folder)?;
        if *size != Size::Tiny {
            fs::remove_dir_all(folder)?;
        }
    }
    Ok(())
}

fn compare(options: &Options, folder: &Path) -> anyhow::Result<()> {
    let name = folder.file_name().and_then(|name| name.to_str());
    let name = name.context("a model has a name")?;
    let read_s = read_all(folder)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        eprintln!("{name}: round {round} of {}", options.rounds);
        ours.push(in_process(
            options,
            &std::env::current_exe()?,
            &["--once".as_ref()],
            folder,
        )?);
        if let Some(python) = &options.python {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/peer.py");
            theirs.push(in_process(options, python, &[script.as_ref()], folder)?);
        }
    }
    let ours = median_of(&ours);
    row(name, "warmq", &ours);
    let rate = read_s / ours.load_s;
    if !theirs.is_empty() {
        let theirs = median_of(&theirs);
        row(name, "diffusers", &theirs);
        let ratio = |ours: f64, theirs: f64| format!("{:.2}", ours / theirs);
        println!(
            "| {name} | warmq / diffusers | {} | {} | {} | {} |",
            ratio(ours.load_s, theirs.load_s),
            ratio(ours.step_s, theirs.step_s),
            ratio(ours.picture_s, theirs.picture_s),
            ratio(ours.peak_bytes as f64, theirs.peak_bytes as f64),
        );
    }
    println!("| {name} | reading the files / load | {rate:.2} | | | |");
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

/// Returns the seconds that reading all files takes, after they were read before.
fn read_all(folder: &Path) -> anyhow::Result<f64> {
    let mut files = Vec::new();
    for component in fs::read_dir(folder)?.flatten() {
        let entries = fs::read_dir(component.path())
            .into_iter()
            .flatten()
            .flatten();
        files.extend(entries.map(|entry| entry.path()));
    }
    let read = || -> std::io::Result<f64> {
        let start = Instant::now();
        for file in &files {
            std::io::copy(&mut fs::File::open(file)?, &mut std::io::sink())?;
        }
        Ok(start.elapsed().as_secs_f64())
    };
    read()?;
    Ok(read()?)
}

/// Times a model in a new process.
fn in_process(
    options: &Options,
    program: &Path,
    script: &[&std::ffi::OsStr],
    model: &Path,
) -> anyhow::Result<Timing> {
    let mut command = Command::new(program);
    command.args(script).arg(model);
    command.args(["--device", &Device::parse(&options.device)?.to_string()]);
    command.args(["--steps", &options.steps.to_string()]);
    command.args(["--threads", &options.threads.to_string()]);
    if let Some(side) = options.side {
        command.args(["--side", &side.to_string()]);
    }
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed:\n{reason}", program.display());
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().last().context("no output")?;
    serde_json::from_str(line).context("the output is not a timing")
}

/// Times a model in this process.
fn once(options: &Options, folder: &Path) -> anyhow::Result<Timing> {
    let device = Device::parse(&options.device)?;
    warmq_diffusion::set_threads(options.threads);
    let models = folder
        .parent()
        .context("a model is in a folder of models")?;
    let name = folder.file_name().and_then(|name| name.to_str());
    let manifest = Catalog::open(models)?.manifest(name.context("a model has a name")?)?;
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
    let warm_up = Request {
        steps: Some(1),
        ..request.clone()
    };
    pipeline.generate(&warm_up, &mut ())?;
    let mut clock = Clock {
        device,
        began: Vec::new(),
    };
    let start = Instant::now();
    pipeline.generate(&request, &mut clock)?;
    let picture_s = start.elapsed().as_secs_f64();
    let pairs = clock.began.iter().zip(clock.began.iter().skip(1));
    let steps = pairs.map(|(one, next)| (*next - *one).as_secs_f64());
    Ok(Timing {
        load_s,
        step_s: median(steps.collect()),
        picture_s,
        peak_bytes: device.memory().map_or(0, |memory| memory.peak_bytes),
    })
}

fn median_of(timings: &[Timing]) -> Timing {
    let of = |value: fn(&Timing) -> f64| median(timings.iter().map(value).collect());
    Timing {
        load_s: of(|timing| timing.load_s),
        step_s: of(|timing| timing.step_s),
        picture_s: of(|timing| timing.picture_s),
        peak_bytes: of(|timing| timing.peak_bytes as f64) as u64,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A config file, by its path.
type Config = (&'static str, Value);

/// Writes a folder in Hugging Face's layout, with random weights in half precision.
fn write_model(folder: &Path, tokenizer: &Path, configs: Vec<Config>) -> anyhow::Result<()> {
    let mut tokenizers = vec!["tokenizer"];
    for (file, config) in configs {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().context("every file is in a folder")?)?;
        fs::write(path, config.to_string())?;
        if file.starts_with("tokenizer_2") {
            tokenizers.push("tokenizer_2");
        }
    }
    for (component, file) in tokenizers
        .into_iter()
        .flat_map(|component| ["vocab.json", "merges.txt"].map(|file| (component, file)))
    {
        fs::copy(tokenizer.join(file), folder.join(component).join(file))
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
fn sd15_configs() -> [Config; 6] {
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

/// Returns the config files of Stable Diffusion XL, by path.
fn sdxl_configs() -> Vec<Config> {
    let text = |hidden: i64, layers: i64, heads: i64, activation: &str| {
        json!({
            "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "dtype": "float16",
            "vocab_size": 49408, "hidden_size": hidden, "intermediate_size": 4 * hidden,
            "num_hidden_layers": layers, "num_attention_heads": heads, "projection_dim": hidden,
            "max_position_embeddings": 77, "hidden_act": activation, "eos_token_id": 2
        })
    };
    let [_, _, _, (vae, mut autoencoder), scheduler, (_, tokenizer)] = sd15_configs();
    autoencoder["sample_size"] = json!(1024);
    autoencoder["scaling_factor"] = json!(0.13025);
    vec![
        (
            "model_index.json",
            json!({
                "_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": true,
                "feature_extractor": [null, null], "image_encoder": [null, null],
                "scheduler": ["diffusers", "DDIMScheduler"],
                "text_encoder": ["transformers", "CLIPTextModel"],
                "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
                "tokenizer": ["transformers", "CLIPTokenizer"],
                "tokenizer_2": ["transformers", "CLIPTokenizer"],
                "unet": ["diffusers", "UNet2DConditionModel"],
                "vae": ["diffusers", "AutoencoderKL"]
            }),
        ),
        ("text_encoder/config.json", text(768, 12, 12, "quick_gelu")),
        ("text_encoder_2/config.json", text(1280, 32, 20, "gelu")),
        (
            "unet/config.json",
            json!({
                "_class_name": "UNet2DConditionModel", "sample_size": 128, "in_channels": 4,
                "out_channels": 4, "block_out_channels": [320, 640, 1280], "layers_per_block": 2,
                "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
                "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
                "transformer_layers_per_block": [1, 2, 10], "attention_head_dim": [5, 10, 20],
                "cross_attention_dim": 2048, "use_linear_projection": true,
                "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816
            }),
        ),
        (vae, autoencoder),
        scheduler,
        ("tokenizer/tokenizer_config.json", tokenizer.clone()),
        ("tokenizer_2/tokenizer_config.json", tokenizer),
    ]
}
