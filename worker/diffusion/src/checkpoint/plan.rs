//! The tensors of a network that is built before it is filled.

use std::cell::RefCell;

use tch::Tensor;

use super::arena::Arena;
use super::fill::Fill;
use super::span::Span;
use super::{Checkpoint, Destination};
use crate::error::Error;
use crate::networks::{Branches, Slot, Slots, Tensors};
use crate::original_names::{Stored, View};

/// Collects what a network needs to be filled with.
pub(super) struct Plan<'a> {
    checkpoint: &'a Checkpoint,
    arena: RefCell<Arena>,
    fills: RefCell<Vec<Fill>>,
    slots: RefCell<Slots>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, destination: Destination) -> Self {
        Self {
            checkpoint,
            arena: RefCell::new(Arena::new(destination)),
            fills: RefCell::default(),
            slots: RefCell::default(),
        }
    }

    fn fill(&self, name: &str, span: Span, tensor: &Tensor) {
        self.fills.borrow_mut().push(Fill {
            name: name.to_owned(),
            span,
            tensor: tensor.shallow_clone(),
        });
    }

    /// Returns the tensors to fill, and the layers that can have branches.
    pub(super) fn into_parts(self) -> (Vec<Fill>, Slots) {
        (self.fills.into_inner(), self.slots.into_inner())
    }
}

impl Tensors for Plan<'_> {
    /// Returns a tensor that is to be filled.
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
        let Stored { name, view } = self.checkpoint.stored(name);
        let stored = self.checkpoint.span(&name, &view.stored_shape(shape))?;
        let shape_in_file = view.part_shape(shape);
        let tensor = self.arena.borrow_mut().tensor(&shape_in_file)?;
        let before = view.numbers_before(shape).unsigned_abs() as usize;
        let span = stored.part(before, tensor.numel());
        match view {
            View::Whole | View::Rows { .. } => {
                self.fill(&name, span, &tensor);
                Ok(tensor)
            }
            View::Transposed => {
                self.fill(&name, span, &tensor);
                Ok(tensor.f_transpose(0, 1)?)
            }
            View::Swapped => {
                let (rows, numbers) = (shape_in_file[0] / 2, span.len / 2);
                let (first, second) = (span.part(0, numbers), span.part(numbers, numbers));
                self.fill(&name, second, &tensor.f_narrow(0, 0, rows)?);
                self.fill(&name, first, &tensor.f_narrow(0, rows, rows)?);
                Ok(tensor)
            }
        }
    }

    fn add_slot(&self, name: &str, weight: &Tensor, branches: &Branches) {
        let slot = Slot {
            branches: branches.clone(),
            shape: weight.size(),
            kind: weight.kind(),
        };
        self.slots.borrow_mut().insert(name.to_owned(), slot);
    }
}
