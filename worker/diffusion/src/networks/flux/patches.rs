//! Between latents `[batch, channels, h, w]` and tokens `[batch, h/2 · w/2, 4 · channels]`, each a
//! patch of 2 × 2 cells, by rows.

use tch::Tensor;

/// Cells along a side of a patch.
const SIDE: i64 = 2;

/// Cells in a patch.
pub(super) const CELLS: i64 = SIDE * SIDE;

/// Returns rows and columns of the patches.
pub(super) fn sides(latents: &Tensor) -> (i64, i64) {
    let size = latents.size();
    (size[2] / SIDE, size[3] / SIDE)
}

pub(super) fn pack(latents: &Tensor) -> Tensor {
    latents.pixel_unshuffle(SIDE).flatten(2, 3).transpose(1, 2)
}

/// The reverse of [`pack`], for patches of these rows and columns.
pub(super) fn unpack(tokens: &Tensor, (rows, columns): (i64, i64)) -> Tensor {
    let patches = tokens.transpose(1, 2).unflatten(2, [rows, columns]);
    patches.pixel_shuffle(SIDE)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn a_token_has_the_four_cells_of_each_channel() {
        // [1, 2, 2, 4]
        let latents = Tensor::arange(16, (Kind::Float, Device::Cpu)).view([1, 2, 2, 4]);
        let tokens = pack(&latents);
        let expected = [[0, 1, 4, 5, 8, 9, 12, 13], [2, 3, 6, 7, 10, 11, 14, 15]];
        assert_eq!(tokens.size(), [1, 2, 8]);
        assert_eq!(
            tokens.to_kind(Kind::Int64),
            Tensor::from_slice2(&expected).unsqueeze(0)
        );
        assert_eq!(unpack(&tokens, sides(&latents)), latents);
    }
}
