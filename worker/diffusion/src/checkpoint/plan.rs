//! The tensors of a network that is built before it is filled.

use std::cell::RefCell;

use tch::Tensor;

use super::arena::Arena;
use super::fill::Fill;
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

    /// Returns the tensors to fill, and the layers that can have branches.
    pub(super) fn into_parts(self) -> (Vec<Fill>, Slots) {
        (self.fills.into_inner(), self.slots.into_inner())
    }
}

impl Tensors for Plan<'_> {
    /// Returns a tensor that is to be filled.
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
        let Stored { name, view } = self.checkpoint.stored(name);
        let stored_shape = view.stored_shape(shape);
        let stored = self.checkpoint.span(&name, &stored_shape)?;
        let (span, shape) = match view {
            View::Whole => (stored, shape),
            View::Transposed => (stored, stored_shape.as_slice()),
            View::Third { index } => (stored.part(index * stored.len / 3, stored.len / 3), shape),
        };
        let tensor = self.arena.borrow_mut().tensor(shape)?;
        self.fills.borrow_mut().push(Fill {
            name,
            span,
            tensor: tensor.shallow_clone(),
        });
        match view {
            View::Transposed => Ok(tensor.f_transpose(0, 1)?),
            _ => Ok(tensor),
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
