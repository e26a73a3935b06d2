//! Stable Diffusion XL (Podell et al., 2023): two CLIP text encoders, and a UNet that also gets the
//! pooled prompt and the picture's size.

use tch::{Kind, Tensor};

use super::clip::{ClipEncoder, ClipFiles, Folders};
use super::denoiser::{Denoiser, DenoiserFiles, EncodedPrompts, NetworkCall};
use super::load::{Loading, Part};
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::manifest::{Manifest, SdxlSpec, UNET_WEIGHTS};
use crate::networks::{AddedConditions, UNet};
use crate::tokenizer::Truncation;

pub(super) struct SdxlFiles {
    texts: [ClipFiles; 2],
    unet: Checkpoint,
    spec: SdxlSpec,
    /// Pixels along a side of a latent cell.
    cell: u32,
}

impl SdxlFiles {
    pub(super) fn open(manifest: &Manifest, spec: &SdxlSpec) -> Result<Self, Error> {
        let (tokenizer, text) = (&manifest.tokenizer, &manifest.text);
        let first = ClipFiles::open(manifest, Folders::FIRST, tokenizer, text)?;
        let (tokenizer, text) = (&spec.tokenizer_2, &spec.text_2);
        let second = ClipFiles::open(manifest, Folders::SECOND, tokenizer, text)?;
        let unet = Checkpoint::open(manifest, UNET_WEIGHTS, str::to_owned)?;
        unet.check(|weights| UNet::new(weights, &spec.unet))?;
        Ok(Self {
            texts: [first, second],
            unet,
            spec: spec.clone(),
            cell: manifest.vae.downsampling(),
        })
    }
}

impl DenoiserFiles for SdxlFiles {
    fn checkpoints(&self) -> Vec<&Checkpoint> {
        let [first, second] = &self.texts;
        vec![first.weights(), second.weights(), &self.unet]
    }

    fn load(self: Box<Self>, loading: &mut Loading<'_>) -> Result<Box<dyn Denoiser>, Error> {
        let kind = self.kind(loading.device());
        let [first, second] = self.texts;
        let texts = [first.load(kind, loading)?, second.load(kind, loading)?];
        let unet = loading.network(Part::Denoiser, &self.unet, kind, |weights| {
            UNet::new(weights, &self.spec.unet)
        })?;
        Ok(Box::new(Sdxl {
            texts,
            unet,
            zeros_without_negative: self.spec.force_zeros_for_empty_prompt,
            cell: f64::from(self.cell),
        }))
    }
}

struct Sdxl {
    texts: [ClipEncoder; 2],
    unet: UNet,
    zeros_without_negative: bool,
    /// Pixels along a side of a latent cell.
    cell: f64,
}

impl Denoiser for Sdxl {
    fn tokens(&self, prompt: &str) -> Result<Vec<i64>, Error> {
        self.texts[0].tokens(prompt)
    }

    fn truncation(&self, field: &'static str, prompt: &str) -> Result<Option<Truncation>, Error> {
        self.texts[0].truncation(field, prompt)
    }

    fn encode(&self, prompts: &[&str]) -> Result<EncodedPrompts, Error> {
        let [first, second] = &self.texts;
        let (first, second) = (first.encode(prompts)?, second.encode(prompts)?);
        Ok(EncodedPrompts {
            states: Tensor::cat(&[first.penultimate, second.penultimate], -1),
            pooled: Some(second.pooled),
        })
    }

    fn encode_no_negative(&self, prompts: &EncodedPrompts) -> Result<EncodedPrompts, Error> {
        match self.zeros_without_negative {
            true => Ok(prompts.zeros()),
            false => self.encode(&[""]),
        }
    }

    fn predict(&self, call: &NetworkCall<'_>) -> Tensor {
        let NetworkCall {
            input,
            timestep,
            prompts,
            ..
        } = call;
        let added = prompts.pooled.as_ref().map(|pooled| AddedConditions {
            pooled,
            sizes: self.sizes(input),
        });
        let states = &prompts.states;
        self.unet.predict(input, *timestep, states, added.as_ref())
    }
}

impl Sdxl {
    /// Returns the numbers about the size of the training picture, as for one that was neither
    /// scaled nor cropped: height and width, offsets of the crop, height and width again.
    fn sizes(&self, input: &Tensor) -> Tensor {
        let sides = input.size();
        let [height, width] = [sides[2], sides[3]].map(|cells| cells as f64 * self.cell);
        let sizes = [height, width, 0.0, 0.0, height, width];
        Tensor::from_slice(&sizes)
            .to_device(input.device())
            .to_kind(Kind::Float)
    }
}
