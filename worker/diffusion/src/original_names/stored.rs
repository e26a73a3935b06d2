//! Where a network's tensors lie in stored ones.

use tch::{TchError, Tensor};

/// A stored tensor, and what of it a network's tensor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) view: View,
}

/// How a network's tensor lies in a stored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Whole,
    /// Some of its rows: `count` of `of` equal parts, from number `first` on. Query, key and value
    /// are often stored as one tensor.
    Rows {
        first: i64,
        count: i64,
        of: i64,
    },
    /// Rows and columns are exchanged.
    Transposed,
    /// The two halves of its rows are exchanged.
    Swapped,
}

impl View {
    /// One of three equal parts of the rows.
    pub(crate) const fn third(index: i64) -> Self {
        Self::Rows {
            first: index,
            count: 1,
            of: 3,
        }
    }

    /// Returns the shape of the stored tensor of a network's tensor of this shape.
    pub(crate) fn stored_shape(self, shape: &[i64]) -> Vec<i64> {
        let mut stored = shape.to_vec();
        match self {
            View::Whole | View::Swapped => {}
            View::Rows { count, of, .. } => {
                stored[..1]
                    .iter_mut()
                    .for_each(|rows| *rows = *rows / count * of);
            }
            View::Transposed => stored.reverse(),
        }
        stored
    }

    /// Returns the shape of the part of the stored tensor that has the numbers of a network's
    /// tensor of this shape, without gaps.
    pub(crate) fn part_shape(self, shape: &[i64]) -> Vec<i64> {
        match self {
            View::Rows { .. } => shape.to_vec(),
            _ => self.stored_shape(shape),
        }
    }

    /// Returns how many numbers of the stored tensor precede that part.
    pub(crate) fn numbers_before(self, shape: &[i64]) -> i64 {
        match self {
            View::Rows { first, count, .. } => shape.iter().product::<i64>() / count * first,
            _ => 0,
        }
    }

    /// Arranges that part as the network has it.
    ///
    /// # Errors
    /// Those of torch.
    fn arranged(self, part: Tensor) -> Result<Tensor, TchError> {
        match self {
            View::Whole | View::Rows { .. } => Ok(part),
            View::Transposed => part.f_transpose(0, 1)?.f_contiguous(),
            View::Swapped => part.f_roll([part.size()[0] / 2], [0]),
        }
    }

    /// Returns a network's part of a whole stored tensor.
    ///
    /// # Errors
    /// Those of torch.
    pub(crate) fn of(self, stored: &Tensor) -> Result<Tensor, TchError> {
        match self {
            View::Rows { first, count, of } => {
                let part = stored.size()[0] / of;
                stored.f_narrow(0, first * part, count * part)
            }
            _ => self.arranged(stored.shallow_clone()),
        }
    }
}

impl Stored {
    pub(crate) fn whole(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            view: View::Whole,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const LAST_TWO_OF_FOUR: View = View::Rows {
        first: 2,
        count: 2,
        of: 4,
    };

    #[test]
    fn the_stored_shape_follows_from_the_networks_shape() {
        assert_eq!(View::third(0).stored_shape(&[4, 5]), [12, 5]);
        assert_eq!(LAST_TWO_OF_FOUR.stored_shape(&[4]), [8]);
        assert_eq!(View::Transposed.stored_shape(&[4, 5]), [5, 4]);
        assert_eq!(View::Transposed.part_shape(&[4, 5]), [5, 4]);
        assert_eq!(View::Swapped.stored_shape(&[4, 5]), [4, 5]);
        assert_eq!(View::third(2).part_shape(&[4, 5]), [4, 5]);
    }

    /// What is read of a file is what a view shows of the whole tensor.
    #[test]
    fn a_part_read_by_its_offset_is_the_part_of_the_whole() {
        let stored = Tensor::from_slice(&(0..24).collect::<Vec<i64>>()).view([12, 2]);
        for (view, shape, first) in [
            (View::Whole, [12, 2], [0, 1]),
            (View::third(1), [4, 2], [8, 9]),
            (LAST_TWO_OF_FOUR, [6, 2], [12, 13]),
            (View::Swapped, [12, 2], [12, 13]),
            (View::Transposed, [2, 12], [0, 2]),
        ] {
            let part = view.part_shape(&shape);
            let numbers = part.iter().product();
            let read = (stored.flatten(0, 1))
                .narrow(0, view.numbers_before(&shape), numbers)
                .view(part.as_slice());
            let arranged = view.arranged(read).unwrap();
            assert_eq!(arranged, view.of(&stored).unwrap(), "{view:?}");
            assert_eq!(arranged.size(), shape);
            let begin = arranged.flatten(0, 1).narrow(0, 0, 2);
            assert_eq!(begin, Tensor::from_slice(&first), "{view:?}");
        }
    }
}
