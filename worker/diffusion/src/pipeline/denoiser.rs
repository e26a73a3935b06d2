//! What differs between families: the networks from a prompt to a prediction.

use tch::{Kind, Tensor};

use super::load::Loading;
use crate::checkpoint::Checkpoint;
use crate::device::Device;
use crate::error::Error;
use crate::tokenizer::Truncation;

/// The loaded networks of a family, except for the autoencoder.
///
/// Implementations may panic where torch does; callers run them inside
/// [`Device::run`](crate::Device::run).
pub(super) trait Denoiser {
    /// Returns the token ids of a prompt, as many as the context of the first text encoder.
    fn tokens(&self, prompt: &str) -> Result<Vec<i64>, Error>;

    /// Returns the truncation of a prompt that exceeds the context.
    fn truncation(&self, field: &'static str, prompt: &str) -> Result<Option<Truncation>, Error>;

    /// Encodes prompts.
    fn encode(&self, prompts: &[&str]) -> Result<EncodedPrompts, Error>;

    /// Encodes the negative prompt of a request without one, for these prompts.
    fn encode_no_negative(&self, _prompts: &EncodedPrompts) -> Result<EncodedPrompts, Error> {
        self.encode(&[""])
    }

    /// Returns a prediction of the latents' shape, in the network's type.
    fn predict(&self, call: &NetworkCall<'_>) -> Tensor;
}

/// One call of the denoising network.
#[derive(Debug, Clone, Copy)]
pub(super) struct NetworkCall<'a> {
    /// `[batch, channels, h/8, w/8]`: the latents and, for inpainting models, what they are to
    /// match.
    pub(super) input: &'a Tensor,
    /// In training steps.
    pub(super) timestep: f64,
    /// As many as the batch.
    pub(super) prompts: &'a EncodedPrompts,
    /// For networks with this input.
    pub(super) guidance: f64,
}

/// Encoded prompts.
#[derive(Debug)]
pub struct EncodedPrompts {
    /// The state of each token: `[prompts, context, width]`.
    pub states: Tensor,
    /// Each prompt as a whole, `[prompts, width]`, for families that use it.
    pub pooled: Option<Tensor>,
}

impl EncodedPrompts {
    /// Returns the prompt at `index`.
    pub fn only(&self, index: i64) -> EncodedPrompts {
        let only = |tensor: &Tensor| tensor.narrow(0, index, 1);
        EncodedPrompts {
            states: only(&self.states),
            pooled: self.pooled.as_ref().map(only),
        }
    }

    /// Returns these prompts, then others of the same family.
    pub(super) fn and(&self, others: &EncodedPrompts) -> EncodedPrompts {
        let both = |one: &Tensor, other: &Tensor| Tensor::cat(&[one, other], 0);
        let pooled = self.pooled.as_ref().zip(others.pooled.as_ref());
        EncodedPrompts {
            states: both(&self.states, &others.states),
            pooled: pooled.map(|(one, other)| both(one, other)),
        }
    }

    /// Returns prompts of zeros, of the same shape.
    pub(super) fn zeros(&self) -> EncodedPrompts {
        EncodedPrompts {
            states: self.states.zeros_like(),
            pooled: self.pooled.as_ref().map(Tensor::zeros_like),
        }
    }
}

/// The opened and checked files of a family's networks, except for the autoencoder.
pub(super) trait DenoiserFiles {
    /// Returns all weights.
    fn checkpoints(&self) -> Vec<&Checkpoint>;

    /// Returns the type of the weights on a device.
    fn kind(&self, device: Device) -> Kind {
        device.weight_kind()
    }

    /// Builds the networks and loads their weights.
    fn load(self: Box<Self>, loading: &mut Loading<'_>) -> Result<Box<dyn Denoiser>, Error>;
}
