//! Stable Diffusion as a library: a folder of models in, pictures out. It knows nothing of queues,
//! jobs or caches; the worker's engine thread does.
//!
//! ```no_run
//! use warmq_diffusion::{Catalog, Device, Pipeline, Request};
//! # fn main() -> Result<(), warmq_diffusion::Error> {
//! let catalog = Catalog::open("models".as_ref())?;
//! let pipeline = Pipeline::load(&catalog.manifest("shapes")?, &Device::Cpu, &mut |_| {})?;
//! let request = Request { prompt: "a red circle on a blue background".into(), ..Request::default() };
//! let pictures = pipeline.generate(&request, &mut ())?;
//! # Ok(()) }
//! ```
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`catalog`](Catalog) | a folder of model folders, and which names it knows |
//! | [`manifest`](Manifest) | what one model is: shapes, defaults, files; `hugging_face` derives it where none is written |
//! | `folder` | the small files around the weights, read with distrust |
//! | `checkpoint` | one safetensors file: every name, shape and type checked, then copied into a network |
//! | `tokenizer`, `clip` | prompt → token ids → text states `[batch, context, hidden]` |
//! | `diffusers_rs` | UNet, VAE and schedulers: the only module that uses the `diffusers` crate |
//! | [`scheduler`](SchedulerKind) | the schedulers' names and limits |
//! | [`request`](Request) | what a caller may ask for, and the check of it against a manifest |
//! | [`pipeline`](Pipeline) | load, then text, and perhaps a picture, → latents `[1, 4, h/8, w/8]` → picture `[3, h, w]` |
//! | `noise` | noise that the same seed draws again |
//! | [`device`](Device), [`memory`](Memory) | where tensors live, and how much they hold |
//! | `guard` | the border at which torch's panics become an [`Error`] |
//! | [`stamp`](Stamp) | whether a model's files changed since they were read |
//! | `random_weights` | [`Manifest::write_random_weights`], for benchmarks and tests |
//!
//! **Threads.** Tensors are `Send`, not `Sync`, and libgomp makes a pool for each calling thread: let
//! one thread own a device, its pipelines and every call on them. **Panics.** None leaves [`Pipeline::load`]
//! or [`Pipeline::generate`], whatever is in the model folder or the request.

mod catalog;
mod checkpoint;
mod clip;
mod device;
mod diffusers_rs;
mod error;
mod folder;
mod guard;
mod hugging_face;
mod manifest;
mod memory;
mod noise;
mod picture;
mod pipeline;
mod random_weights;
mod request;
mod scheduler;
mod stamp;
mod tokenizer;

pub use catalog::Catalog;
pub use device::{Device, set_threads, unusable_gpu};
pub use error::Error;
pub use manifest::{
    Activation, BetaSchedule, Defaults, Dtype, Family, FileEntry, Heads, ImageSizes, Manifest,
    PredictionType, SchedulerSpec, TextSpec, TokenizerSpec, UNetSpec, VaeSpec,
};
pub use memory::Memory;
pub use picture::Picture;
pub use pipeline::{LoadStep, Observer, Part, Pipeline};
pub use request::Request;
pub use scheduler::SchedulerKind;
pub use stamp::Stamp;
