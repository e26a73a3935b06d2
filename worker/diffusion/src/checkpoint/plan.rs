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
    transpositions: RefCell<Vec<Transposition>>,
    slots: RefCell<Slots>,
}

/// What is to be done once a network is built.
pub(super) struct Work {
    /// Tensors to fill.
    pub(super) fills: Vec<Fill>,
    /// To be carried out after the fills.
    pub(super) transpositions: Vec<Transposition>,
    /// The layers that can have branches.
    pub(super) slots: Slots,
}

/// A tensor whose rows and columns are exchanged in the file.
pub(super) struct Transposition {
    as_stored: Tensor,
    tensor: Tensor,
}

impl Transposition {
    /// Copies the contents, so that the network's tensor is contiguous: products with a strided one
    /// differ in the last digits.
    pub(super) fn carry_out(mut self) -> Result<(), Error> {
        let transposed = self.as_stored.f_transpose(0, 1)?;
        self.tensor.f_copy_(&transposed)?;
        Ok(())
    }
}

impl<'a> Plan<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, destination: Destination) -> Self {
        Self {
            checkpoint,
            arena: RefCell::new(Arena::new(destination)),
            fills: RefCell::default(),
            transpositions: RefCell::default(),
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

    pub(super) fn into_work(self) -> Work {
        Work {
            fills: self.fills.into_inner(),
            transpositions: self.transpositions.into_inner(),
            slots: self.slots.into_inner(),
        }
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
                // Not of the arena, which lives as long as the network.
                let as_stored = Tensor::f_empty(&shape_in_file, (tensor.kind(), tensor.device()))?;
                self.fill(&name, span, &as_stored);
                let tensor = tensor.f_view(shape)?;
                self.transpositions.borrow_mut().push(Transposition {
                    as_stored,
                    tensor: tensor.shallow_clone(),
                });
                Ok(tensor)
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
