//! Where a network gets its tensors.

use std::fmt::Display;

use tch::Tensor;

use super::lora_branches::Branches;
use crate::error::Error;

/// The tensors of one network.
pub(crate) trait Tensors {
    /// Returns the tensor of this name, whose contents may follow later.
    ///
    /// # Errors
    /// It does not exist, or has another shape or type.
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error>;

    /// Receives a layer that can have branches, and its weight.
    fn add_slot(&self, _name: &str, _weight: &Tensor, _branches: &Branches) {}
}

/// The tensors below a path, such as `down_blocks.0.resnets.1`.
#[derive(Clone)]
pub(crate) struct Weights<'a> {
    tensors: &'a dyn Tensors,
    path: String,
}

impl<'a> Weights<'a> {
    /// Returns all tensors of a network.
    pub(crate) fn root(tensors: &'a dyn Tensors) -> Self {
        Self {
            tensors,
            path: String::new(),
        }
    }

    /// Returns where the tensors come from.
    pub(crate) fn source(&self) -> &'a dyn Tensors {
        self.tensors
    }

    /// Returns the tensors below `name`.
    pub(crate) fn at(&self, name: impl Display) -> Self {
        Self {
            tensors: self.tensors,
            path: self.joined(name),
        }
    }

    /// Returns one tensor.
    pub(super) fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
        self.tensors.tensor(&self.joined(name), shape)
    }

    /// Returns the branches of the layer at this path, which has this weight: none yet.
    pub(super) fn branches(&self, weight: &Tensor) -> Branches {
        let branches = Branches::default();
        self.tensors.add_slot(&self.path, weight, &branches);
        branches
    }

    fn joined(&self, name: impl Display) -> String {
        match self.path.as_str() {
            "" => name.to_string(),
            path => format!("{path}.{name}"),
        }
    }
}
