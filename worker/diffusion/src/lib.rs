//! Stable Diffusion and FLUX.1 as a library: from a folder of models to pictures. It knows no
//! queues, jobs or caches; the worker's engine thread does.
//!
//! ```no_run
//! use warmq_diffusion::{Catalog, Device, Pipeline, Request};
//! # fn main() -> Result<(), warmq_diffusion::Error> {
//! let catalog = Catalog::open("models".as_ref())?;
//! let pipeline = Pipeline::load(&catalog.manifest("shapes")?, &Device::Cpu, &mut |_| {})?;
//! let prompt = "a red circle on a blue background".to_owned();
//! let request = Request { prompt, ..Request::default() };
//! let pictures = pipeline.generate(&request, &mut ())?;
//! # Ok(()) }
//! ```
//!
//! | module | contents |
//! | --- | --- |
//! | [`catalog`](Catalog) | a folder with one folder per model, and their names |
//! | [`manifest`](Manifest) | a model's shapes, defaults and files, or `hugging_face` derives it |
//! | `model_paths` | where the models of a folder lie, and their names |
//! | `folder` | reads the small, untrusted files beside the weights |
//! | `weight_files` | finds a network's safetensors files: one, or several behind an index |
//! | `checkpoint` | safetensors files of a network: every tensor is checked, then filled |
//! | `tokenizer`, `t5_tokenizer` | prompt → token ids |
//! | `networks` | text encoder, UNet and autoencoder, built from a checkpoint's tensors |
//! | `sampling` | noise schedules and solvers: from noise to latents in some calls of the UNet |
//! | `diffusers_rs` | three more solvers: the only module that uses the `diffusers` crate |
//! | [`scheduler`](SchedulerKind) | the schedulers' names and limits |
//! | [`request`](Request) | a caller's request, and its check against a manifest |
//! | [`pipeline`](Pipeline) | load; text → latents `[1, c, h/8, w/8]` → picture `[3, h, w]` |
//! | `lora` | LoRAs: files that change a loaded model for one request |
//! | `single_file` | derives the manifest of a single file with all networks |
//! | `original_names` | tensors' names in the layout of the first publication |
//! | `noise`, [`latents`](Latents) | reproducible noise; latents as data, in files |
//! | `unsupported` | recognizes files that are not weights in a supported format |
//! | [`device`](Device), [`memory`](Memory) | the device of tensors, and their memory |
//! | `panic_guard` | maps torch's panics to [`Error`] |
//! | [`stamp`](Stamp) | detects changes of a model's files |
//! | `random_weights` | [`write_random_weights`], for benchmarks and tests |
//!
//! **Threads.** Tensors are `Send`, not `Sync`, and libgomp creates a pool for each calling thread:
//! one thread should own a device, its pipelines and every call on them. A load has threads of its
//! own, which end with it. **Panics.** No panic escapes [`Pipeline::load`] or
//! [`Pipeline::generate`], whatever the model folder or the request contains.

mod catalog;
mod checkpoint;
mod device;
mod diffusers_rs;
mod error;
mod folder;
mod hugging_face;
mod latents;
mod lora;
mod manifest;
mod mask;
mod memory;
mod model_paths;
mod networks;
mod noise;
mod original_names;
mod panic_guard;
mod picture;
mod pipeline;
mod random_weights;
mod request;
mod sampling;
mod scheduler;
mod single_file;
mod stamp;
mod t5_tokenizer;
mod tokenizer;
mod unsupported;
mod weight_files;

pub use catalog::Catalog;
pub use device::{Device, set_threads, unusable_gpu};
pub use error::Error;
pub use latents::Latents;
pub use manifest::{
    Activation, AddedSpec, BetaSchedule, Defaults, DpmAlgorithm, DpmSolverType, Dtype, FileEntry,
    FinalSigma, FlowCurve, FlowMatchSpec, FlowShift, FluxSpec, FluxTransformerSpec, Heads,
    ImageSizes, Manifest, Networks, PredictionType, SchedulerSpec, SdSpec, SdxlSpec, SigmaSpacing,
    T5Spec, TextSpec, TimestepSpacing, TokenizerSpec, UNetSpec, UniPcSolver, UniPcSpec, VaeSpec,
};
pub use mask::Mask;
pub use memory::Memory;
pub use picture::Picture;
pub use pipeline::{EncodedPrompts, LoadStep, Observer, Part, Pipeline, Start, WeightSizes};
pub use random_weights::write_random_weights;
pub use request::{Lora, Request, Workload};
pub use scheduler::SchedulerKind;
pub use stamp::Stamp;
pub use tokenizer::Truncation;
