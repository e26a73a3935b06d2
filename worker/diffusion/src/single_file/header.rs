//! The names and shapes of a file's tensors, and what follows from them.

use std::collections::BTreeMap;

use safetensors::tensor::Dtype as StoredType;

use crate::manifest::Dtype;

/// A file's tensors by name.
pub(crate) type Tensors = BTreeMap<String, (Vec<i64>, StoredType)>;

/// A part of a file: the tensors whose names begin with a prefix.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    tensors: &'a Tensors,
    prefix: &'a str,
}

impl<'a> Part<'a> {
    pub(super) fn new(tensors: &'a Tensors, prefix: &'a str) -> Self {
        Self { tensors, prefix }
    }

    pub(super) fn has(self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Returns a dimension of a tensor.
    ///
    /// # Errors
    /// A sentence that names the tensor that is missing.
    pub(super) fn size(self, name: &str, dimension: usize) -> Result<i64, String> {
        let shape = self.get(name).map(|(shape, _)| shape);
        let size = shape.and_then(|shape| shape.get(dimension));
        size.copied()
            .ok_or_else(|| format!("{}{name} is missing", self.prefix))
    }

    /// Returns the number of a tensor's dimensions.
    pub(super) fn rank(self, name: &str) -> usize {
        self.get(name).map_or(0, |(shape, _)| shape.len())
    }

    /// Returns how many of the names that `name` makes of 0, 1, 2 … exist.
    pub(super) fn count(self, name: impl Fn(usize) -> String) -> usize {
        (0..self.tensors.len())
            .take_while(|&index| self.has(&name(index)))
            .count()
    }

    /// Returns the stored type of a tensor.
    pub(super) fn dtype(self, name: &str) -> Dtype {
        match self.get(name) {
            Some((_, StoredType::F16)) => Dtype::F16,
            Some((_, StoredType::BF16)) => Dtype::Bf16,
            _ => Dtype::F32,
        }
    }

    fn get(self, name: &str) -> Option<&'a (Vec<i64>, StoredType)> {
        self.tensors.get(&format!("{}{name}", self.prefix))
    }
}
