//! Times the engine beside Python's diffusers, on the same folders, device and threads.
//!
//! ```sh
//! cargo run --release -p warmq-diffusion --example bench_engine -- --python .venv/bin/python
//! ```
//!
//! Prints a Markdown table: an included model, and models of Stable Diffusion 1.5's and XL's sizes
//! with random weights, which are written once (2 and 7 GB). A ratio below 1 means that this engine
//! is faster. Each round starts a new process of either engine, in turns. It loads the model, whose
//! files are in the page cache, and generates one picture with guidance; on a GPU, another one
//! first to warm up. Both wait for the device after every step, so that steps measure execution,
//! not submission.
//!
//! | module | contents |
//! | --- | --- |
//! | `models` | folders with random weights |
//! | `timing` | times one model in this process |
//! | `table` | medians |

mod models;
mod table;
mod timing;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use models::Model;
use table::{Round, print_head, print_rows};
use timing::{Picture, Timing, once};
use warmq_diffusion::Device;

#[derive(Parser)]
struct Options {
    /// cpu, cuda:<index>, or auto: the first GPU if there is one.
    #[arg(long, default_value = "auto")]
    device: String,
    /// The folder of the included models.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models"))]
    models: PathBuf,
    /// The folder in which models with random weights are kept for the next time.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bench-engine"))]
    scratch: PathBuf,
    /// Only these pictures.
    #[arg(long, value_delimiter = ',', default_values = ["tiny", "sd15-512", "sdxl-512", "sdxl-1024"])]
    only: Vec<Case>,
    /// Steps of a picture [default: 20, or 3 and 2 for the large models]; at least 2.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    steps: Option<u32>,
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
    #[arg(long, hide = true, requires = "steps")]
    once: Option<PathBuf>,
    /// Pixels along a side of that picture.
    #[arg(long, hide = true)]
    side: Option<u32>,
}

/// A model, and the pixels along a side.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Case {
    Tiny,
    #[value(name = "sd15-512")]
    Sd15At512,
    #[value(name = "sdxl-512")]
    SdxlAt512,
    #[value(name = "sdxl-1024")]
    SdxlAt1024,
}

impl Case {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn model(self) -> Model {
        match self {
            Self::Tiny => Model::Tiny,
            Self::Sd15At512 => Model::Sd15,
            Self::SdxlAt512 | Self::SdxlAt1024 => Model::Sdxl,
        }
    }

    /// Returns the picture, with few steps where one takes long.
    fn picture(self) -> Picture {
        let (steps, side) = match self {
            Self::Tiny => (20, None),
            Self::Sd15At512 | Self::SdxlAt512 => (3, Some(512)),
            Self::SdxlAt1024 => (2, Some(1024)),
        };
        Picture { steps, side }
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let device = Device::parse(&options.device)?;
    if let (Some(model), Some(steps)) = (&options.once, options.steps) {
        let side = options.side;
        let timing = once(device, options.threads, model, Picture { steps, side })?;
        println!("{}", serde_json::to_string(&timing)?);
        return Ok(());
    }
    println!(
        "{} ({device}), {} threads, medians of {} rounds\n",
        device.name(),
        options.threads,
        options.rounds
    );
    print_head();
    for case in &options.only {
        let folder = case.model().folder(&options.models, &options.scratch)?;
        let rounds = (1..=options.rounds).map(|number| round(&options, *case, &folder, number));
        print_rows(&case.name(), &rounds.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(())
}

/// Times both engines; which one is first alternates.
fn round(options: &Options, case: Case, folder: &Path, number: usize) -> anyhow::Result<Round> {
    read_all(folder)?;
    let read_s = read_all(folder)?;
    eprintln!("{}, round {number}: read in {read_s:.2} s", case.name());
    let warmq = || -> anyhow::Result<Timing> {
        let program = std::env::current_exe()?;
        in_process(
            options,
            case,
            &program,
            &["--once".as_ref(), folder.as_ref()],
        )
    };
    let diffusers = || {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/peer.py");
        let arguments = [script.as_ref(), folder.as_ref()];
        let python = options.python.as_ref();
        python
            .map(|python| in_process(options, case, python, &arguments))
            .transpose()
    };
    let (warmq, diffusers) = if number % 2 == 1 {
        (warmq()?, diffusers()?)
    } else {
        let diffusers = diffusers()?;
        (warmq()?, diffusers)
    };
    Ok(Round {
        read_s,
        warmq,
        diffusers,
    })
}

/// A buffer that starts where a page does. To a place that is a few bytes further in its page than
/// the source, some processors copy at a third of the speed.
#[repr(align(4096))]
struct ReadBuffer([u8; 256 << 10]);

/// Returns the seconds that one thread needs to read all files.
fn read_all(folder: &Path) -> anyhow::Result<f64> {
    let mut files = Vec::new();
    for component in fs::read_dir(folder)?.flatten() {
        let entries = fs::read_dir(component.path());
        let entries = entries.into_iter().flatten().flatten();
        files.extend(entries.map(|entry| entry.path()));
    }
    let mut buffer = Box::new(ReadBuffer([0; 256 << 10]));
    let start = Instant::now();
    for file in &files {
        let mut file = File::open(file)?;
        while file.read(&mut buffer.0)? > 0 {}
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Times a model in a new process.
fn in_process(
    options: &Options,
    case: Case,
    program: &Path,
    arguments: &[&OsStr],
) -> anyhow::Result<Timing> {
    let Picture { steps, side } = case.picture();
    let mut command = Command::new(program);
    command.args(arguments);
    command.args(["--device", &Device::parse(&options.device)?.to_string()]);
    command.args(["--steps", &options.steps.unwrap_or(steps).to_string()]);
    command.args(["--threads", &options.threads.to_string()]);
    if let Some(side) = side {
        command.args(["--side", &side.to_string()]);
    }
    eprintln!("  {}", program.display());
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}):\n{reason}",
            program.display(),
            output.status
        );
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().last().context("no output")?;
    eprintln!("  {line}");
    serde_json::from_str(line).context("the output is not a timing")
}
