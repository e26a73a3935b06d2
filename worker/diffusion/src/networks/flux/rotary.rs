//! The positions of tokens: pairs of numbers of queries and keys are rotated by angles that grow
//! with the position, so that a score depends on the difference (Su et al., 2021). Here a position
//! has three axes: page, row and column.

use tch::{Device, Kind, Tensor};

/// The base of the angles.
const THETA: f64 = 10_000.0;

/// The rotation of each pair of numbers of each token.
pub(super) struct Rotary {
    /// Complex numbers of length 1: `[tokens, head_size / 2]`.
    rotations: Tensor,
}

impl Rotary {
    /// Returns the rotations of the text's tokens, all at the origin, and then those of the
    /// picture's, by rows. `axes`: numbers of a head that encode each axis.
    pub(super) fn new(
        axes: [i64; 3],
        text_tokens: i64,
        (rows, columns): (i64, i64),
        device: Device,
    ) -> Self {
        let options = (Kind::Double, device);
        let grid = |along: Tensor| along.expand([rows, columns], false).flatten(0, 1);
        let positions = [
            Tensor::zeros([rows * columns], options),
            grid(Tensor::arange(rows, options).unsqueeze(1)),
            grid(Tensor::arange(columns, options).unsqueeze(0)),
        ];
        // [tokens, size / 2]
        let angles = |(picture, size): (&Tensor, i64)| {
            let text = Tensor::zeros([text_tokens], options);
            let frequency = Tensor::arange_start_step(0, size, 2, options) / size as f64;
            let frequency = (frequency * -THETA.ln()).exp();
            Tensor::cat(&[&text, picture], 0).outer(&frequency)
        };
        let angles: Vec<Tensor> = positions.iter().zip(axes).map(angles).collect();
        let angles = Tensor::cat(&angles, 1);
        let rotations = Tensor::polar(&angles.ones_like(), &angles);
        Self {
            rotations: rotations.to_kind(Kind::ComplexFloat),
        }
    }

    /// Rotates queries or keys `[1, heads, tokens, head_size]`, in single precision.
    pub(super) fn rotate(&self, states: &Tensor) -> Tensor {
        let pairs = states.to_kind(Kind::Float).unflatten(-1, [-1, 2]);
        let rotated = (pairs.view_as_complex() * &self.rotations).view_as_real();
        rotated.flatten(-2, -1).to_kind(states.kind())
    }
}
