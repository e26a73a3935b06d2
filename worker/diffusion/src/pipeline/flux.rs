//! FLUX.1: a CLIP text encoder that only pools the prompt, a T5 encoder, and a transformer.

use tch::{Kind, Tensor};

use super::clip::{ClipEncoder, ClipFiles, Folders};
use super::denoiser::{Denoiser, DenoiserFiles, EncodedPrompts, NetworkCall};
use super::load::{Loading, Part};
use crate::checkpoint::Checkpoint;
use crate::device::Device;
use crate::error::Error;
use crate::manifest::{FluxSpec, Manifest, TEXT_2_WEIGHTS, TRANSFORMER_WEIGHTS};
use crate::networks::{FluxPrompt, FluxTransformer, T5_TOKENS, T5Encoder};
use crate::t5_tokenizer;
use crate::tokenizer::{Tokenizer, Truncation};

pub(super) struct FluxFiles {
    clip: ClipFiles,
    tokenizer: Tokenizer,
    t5: Checkpoint,
    transformer: Checkpoint,
    spec: FluxSpec,
    /// Rows of T5's token embedding.
    vocabulary: i64,
}

impl FluxFiles {
    pub(super) fn open(manifest: &Manifest, spec: &FluxSpec) -> Result<Self, Error> {
        let (tokenizer, text) = (&manifest.tokenizer, &manifest.text);
        let clip = ClipFiles::open(manifest, Folders::FIRST, tokenizer, text)?;
        let (folder, file) = (manifest.folder(), manifest.located(t5_tokenizer::FILE));
        let tokenizer = t5_tokenizer::load(folder, &manifest.name, &file, spec.t5.context)?;
        let t5 = Checkpoint::open(manifest, TEXT_2_WEIGHTS, str::to_owned)?;
        let vocabulary = t5.rows(T5_TOKENS)?;
        let largest = tokenizer.largest_id();
        if largest >= vocabulary {
            let message = format!("has the id {largest}, the text encoder {vocabulary} rows");
            return Err(manifest.bad(&file, message));
        }
        t5.check(|weights| T5Encoder::new(weights, &spec.t5, vocabulary))?;
        let transformer = Checkpoint::open(manifest, TRANSFORMER_WEIGHTS, str::to_owned)?;
        transformer.check(|weights| FluxTransformer::new(weights, &spec.transformer))?;
        Ok(Self {
            clip,
            tokenizer,
            t5,
            transformer,
            spec: spec.clone(),
            vocabulary,
        })
    }
}

impl DenoiserFiles for FluxFiles {
    fn checkpoints(&self) -> Vec<&Checkpoint> {
        vec![self.clip.weights(), &self.t5, &self.transformer]
    }

    /// T5's states overflow in half precision.
    fn kind(&self, device: Device) -> Kind {
        device.wide_weight_kind()
    }

    fn load(self: Box<Self>, loading: &mut Loading<'_>) -> Result<Box<dyn Denoiser>, Error> {
        let kind = self.kind(loading.device());
        let Self {
            clip,
            tokenizer,
            spec,
            vocabulary,
            ..
        } = *self;
        let clip = clip.load(kind, loading)?;
        let t5 = loading.network(Part::TextEncoder, &self.t5, kind, |weights| {
            T5Encoder::new(weights, &spec.t5, vocabulary)
        })?;
        let transformer = loading.network(Part::Denoiser, &self.transformer, kind, |weights| {
            FluxTransformer::new(weights, &spec.transformer)
        })?;
        Ok(Box::new(Flux {
            clip,
            tokenizer,
            t5,
            transformer,
            device: loading.device(),
        }))
    }
}

struct Flux {
    clip: ClipEncoder,
    tokenizer: Tokenizer,
    t5: T5Encoder,
    transformer: FluxTransformer,
    device: Device,
}

impl Denoiser for Flux {
    fn tokens(&self, prompt: &str) -> Result<Vec<i64>, Error> {
        self.clip.tokens(prompt)
    }

    fn truncation(&self, field: &'static str, prompt: &str) -> Result<Option<Truncation>, Error> {
        self.tokenizer.truncation(field, prompt)
    }

    fn encode(&self, prompts: &[&str]) -> Result<EncodedPrompts, Error> {
        let ids = prompts
            .iter()
            .map(|prompt| Ok(Tensor::from_slice(&self.tokenizer.encode(prompt)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let ids = Tensor::f_stack(&ids, 0)?.to_device(self.device.torch());
        Ok(EncodedPrompts {
            states: self.t5.forward(&ids),
            pooled: Some(self.clip.encode(prompts)?.pooled),
        })
    }

    fn predict(&self, call: &NetworkCall<'_>) -> Tensor {
        let prompts = call.prompts;
        let prompt = FluxPrompt {
            text: &prompts.states,
            // Only another family's prompts have none: their width is wrong as well.
            pooled: prompts.pooled.as_ref().unwrap_or(&prompts.states),
            guidance: call.guidance,
        };
        self.transformer.predict(call.input, call.timestep, &prompt)
    }
}
