//! Stable Diffusion 1.x and 2.x: a CLIP text encoder and a UNet.

use tch::Tensor;

use super::clip::{ClipEncoder, ClipFiles, Folders};
use super::denoiser::{Denoiser, DenoiserFiles, EncodedPrompts, NetworkCall};
use super::load::{Loading, Part};
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::manifest::{Manifest, SdSpec, UNET_WEIGHTS};
use crate::networks::UNet;
use crate::tokenizer::Truncation;

pub(super) struct SdFiles {
    text: ClipFiles,
    unet: Checkpoint,
    spec: SdSpec,
}

impl SdFiles {
    pub(super) fn open(manifest: &Manifest, spec: &SdSpec) -> Result<Self, Error> {
        let text = ClipFiles::open(
            manifest,
            Folders::FIRST,
            &manifest.tokenizer,
            &manifest.text,
        )?;
        let unet = Checkpoint::open(manifest, UNET_WEIGHTS, str::to_owned)?;
        unet.check(|weights| UNet::new(weights, &spec.unet))?;
        Ok(Self {
            text,
            unet,
            spec: spec.clone(),
        })
    }
}

impl DenoiserFiles for SdFiles {
    fn checkpoints(&self) -> Vec<&Checkpoint> {
        vec![self.text.weights(), &self.unet]
    }

    fn load(self: Box<Self>, loading: &mut Loading<'_>) -> Result<Box<dyn Denoiser>, Error> {
        let kind = self.kind(loading.device());
        let text = self.text.load(kind, loading)?;
        let unet = loading.network(Part::Denoiser, &self.unet, kind, |weights| {
            UNet::new(weights, &self.spec.unet)
        })?;
        Ok(Box::new(Sd { text, unet }))
    }
}

struct Sd {
    text: ClipEncoder,
    unet: UNet,
}

impl Denoiser for Sd {
    fn tokens(&self, prompt: &str) -> Result<Vec<i64>, Error> {
        self.text.tokens(prompt)
    }

    fn truncation(&self, field: &'static str, prompt: &str) -> Result<Option<Truncation>, Error> {
        self.text.truncation(field, prompt)
    }

    fn encode(&self, prompts: &[&str]) -> Result<EncodedPrompts, Error> {
        Ok(EncodedPrompts {
            states: self.text.encode(prompts)?.last,
            pooled: None,
        })
    }

    fn predict(&self, call: &NetworkCall<'_>) -> Tensor {
        let NetworkCall {
            input,
            timestep,
            prompts,
            ..
        } = call;
        self.unet.predict(input, *timestep, &prompts.states, None)
    }
}
