//! The block in which picture and text have common weights; attention and the feed-forward part
//! are computed side by side (Dehghani et al., 2023).

use tch::Tensor;

use super::super::Weights;
use super::super::layers::Linear;
use super::Shape;
use super::attention::{self, Projections};
use super::modulation::{Modulation, modulated};
use super::rotary::Rotary;
use crate::error::Error;

pub(super) struct SingleBlock {
    modulation: Modulation,
    projections: Projections,
    widen: Linear,
    /// From the results of both parts.
    out: Linear,
}

impl SingleBlock {
    pub(super) fn new(weights: &Weights<'_>, shape: Shape) -> Result<Self, Error> {
        let (width, inner) = (shape.width, shape.inner());
        let attention = weights.at("attn");
        Ok(Self {
            modulation: Modulation::new(&weights.at("norm.linear"), width, 3)?,
            projections: Projections::new(&attention, &attention::PICTURE, shape)?,
            widen: Linear::new(&weights.at("proj_mlp"), width, inner)?,
            out: Linear::new(&weights.at("proj_out"), width + inner, width)?,
        })
    }

    /// Returns the tokens of text and picture, `[1, n, width]`.
    pub(super) fn forward(&self, tokens: Tensor, conditioning: &Tensor, rotary: &Rotary) -> Tensor {
        let [shift, scale, gate] = self.modulation.parts(conditioning);
        let normed = modulated(&tokens, &shift, &scale);
        let mixed = self.projections.forward(&normed).attend(rotary);
        let wide = self.widen.forward(&normed).gelu("tanh");
        tokens + self.out.forward(&Tensor::cat(&[mixed, wide], 2)) * gate
    }
}
