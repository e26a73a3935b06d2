//! The block in which picture and text have weights of their own, and attend to each other.

use tch::Tensor;

use super::super::Weights;
use super::super::layers::Linear;
use super::Shape;
use super::attention::{self, Heads, Projections};
use super::modulation::{Modulation, modulated};
use super::rotary::Rotary;
use crate::error::Error;

pub(super) struct DoubleBlock {
    picture: Stream,
    text: Stream,
}

impl DoubleBlock {
    pub(super) fn new(weights: &Weights<'_>, shape: Shape) -> Result<Self, Error> {
        Ok(Self {
            picture: Stream::new(weights, &PICTURE, shape)?,
            text: Stream::new(weights, &TEXT, shape)?,
        })
    }

    /// Returns the tokens of picture and text, `[1, n, width]` each.
    pub(super) fn forward(
        &self,
        picture: Tensor,
        text: Tensor,
        conditioning: &Tensor,
        rotary: &Rotary,
    ) -> (Tensor, Tensor) {
        let [of_picture, of_text] = [&self.picture, &self.text]
            .map(|stream| Modulations::from_parts(stream.modulation.parts(conditioning)));
        let heads = (self.text.heads(&text, &of_text))
            .followed_by(self.picture.heads(&picture, &of_picture));
        let mixed = heads.attend(rotary);
        let (texts, all) = (text.size()[1], mixed.size()[1]);
        let (mixed_text, mixed) = (
            mixed.narrow(1, 0, texts),
            mixed.narrow(1, texts, all - texts),
        );
        (
            self.picture.leave(picture, &mixed, &of_picture),
            self.text.leave(text, &mixed_text, &of_text),
        )
    }
}

/// The names of a stream's layers.
struct Names {
    modulation: &'static str,
    attention: attention::Names,
    out: &'static str,
    feed_forward: &'static str,
}

const PICTURE: Names = Names {
    modulation: "norm1.linear",
    attention: attention::PICTURE,
    out: "to_out.0",
    feed_forward: "ff.net",
};

const TEXT: Names = Names {
    modulation: "norm1_context.linear",
    attention: attention::TEXT,
    out: "to_add_out",
    feed_forward: "ff_context.net",
};

/// The layers of the picture or of the text.
struct Stream {
    modulation: Modulation,
    projections: Projections,
    out: Linear,
    widen: Linear,
    narrow: Linear,
}

impl Stream {
    fn new(weights: &Weights<'_>, names: &Names, shape: Shape) -> Result<Self, Error> {
        let (width, inner) = (shape.width, shape.inner());
        let attention = weights.at("attn");
        let feed_forward = weights.at(names.feed_forward);
        Ok(Self {
            modulation: Modulation::new(&weights.at(names.modulation), width, 6)?,
            projections: Projections::new(&attention, &names.attention, shape)?,
            out: Linear::new(&attention.at(names.out), width, width)?,
            widen: Linear::new(&feed_forward.at("0.proj"), width, inner)?,
            narrow: Linear::new(&feed_forward.at("2"), inner, width)?,
        })
    }

    fn heads(&self, tokens: &Tensor, modulations: &Modulations) -> Heads {
        let Part { shift, scale, .. } = &modulations.attention;
        self.projections.forward(&modulated(tokens, shift, scale))
    }

    /// Adds the result of attention, and that of the feed-forward part.
    fn leave(&self, tokens: Tensor, mixed: &Tensor, modulations: &Modulations) -> Tensor {
        let tokens = tokens + self.out.forward(mixed) * &modulations.attention.gate;
        let Part { shift, scale, gate } = &modulations.feed_forward;
        let wide = self.widen.forward(&modulated(&tokens, shift, scale));
        &tokens + self.narrow.forward(&wide.gelu("tanh")) * gate
    }
}

/// The modulation of a stream's two parts.
struct Modulations {
    attention: Part,
    feed_forward: Part,
}

struct Part {
    shift: Tensor,
    scale: Tensor,
    /// The weight of the part's result.
    gate: Tensor,
}

impl Modulations {
    /// `parts`: in their stored order.
    fn from_parts(parts: [Tensor; 6]) -> Self {
        let [shift, scale, gate, shift2, scale2, gate2] = parts;
        Self {
            attention: Part { shift, scale, gate },
            feed_forward: Part {
                shift: shift2,
                scale: scale2,
                gate: gate2,
            },
        }
    }
}
