//! Low-rank branches beside a layer (LoRA; Hu et al., 2021): `y += scale · up(down(x))`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Kind, Tensor};

/// One branch.
#[derive(Debug)]
pub(crate) struct Branch {
    /// As the layer's weight, with the rank as outputs: `[rank, inputs, …]`.
    pub(crate) down: Tensor,
    /// `[outputs, rank]`; for a convolution `[outputs, rank, 1, 1]`.
    pub(crate) up: Tensor,
    pub(crate) scale: f64,
}

/// The branches of one layer, which change between requests. The lock is never contended: one
/// thread owns a model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Branches(Arc<Mutex<Vec<Branch>>>);

impl Branches {
    /// Adds a branch.
    pub(crate) fn add(&self, branch: Branch) {
        self.lock().push(branch);
    }

    /// Removes all branches.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Returns the layer's output with that of all branches, each computed by `through`.
    pub(super) fn added(&self, output: Tensor, through: impl Fn(&Branch) -> Tensor) -> Tensor {
        let branches = self.lock();
        (branches.iter()).fold(output, |output, branch| {
            output + through(branch) * branch.scale
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Branch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A layer that can have branches.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) branches: Branches,
    /// The shape of the layer's weight.
    pub(crate) shape: Vec<i64>,
    /// The type of the layer's weight.
    pub(crate) kind: Kind,
}

/// The layers of a network that can have branches, by their names in Hugging Face's layout.
pub(crate) type Slots = BTreeMap<String, Slot>;
