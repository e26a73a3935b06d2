//! One safetensors file. Opening checks its whole header; the name, shape and type of every tensor
//! are checked before any is copied into a network. An error about a damaged file contains the file
//! and the tensor.
//!
//! The file is read one tensor at a time instead of mapped: truncating a mapped file kills the
//! process.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use safetensors::tensor::{Dtype, Metadata};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::error::Error;
use crate::folder;
use crate::manifest::Manifest;

/// The format's limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The header follows its length, a little-endian u64.
const LENGTH_BYTES: u64 = 8;

pub(crate) struct Checkpoint {
    model: String,
    /// Relative to the model's folder.
    file: String,
    handle: File,
    /// By the network's name of the tensor.
    tensors: BTreeMap<String, Entry>,
}

struct Entry {
    shape: Vec<i64>,
    dtype: Dtype,
    /// Offset from the start of the file, bytes.
    offset: u64,
    bytes: usize,
}

impl Checkpoint {
    /// Opens a file of the model's folder; `rename` maps a stored name to the network's.
    pub(crate) fn open(
        manifest: &Manifest,
        file: &str,
        rename: fn(&str) -> String,
    ) -> Result<Checkpoint, Error> {
        let bad = |message: String| manifest.bad(file, message);
        let unreadable = |e: std::io::Error| manifest.bad(file, "cannot be read").because(e);
        let handle = File::open(manifest.folder().join(file)).map_err(unreadable)?;
        let file_bytes = handle.metadata().map_err(unreadable)?.len();
        if file_bytes < LENGTH_BYTES {
            return Err(bad(format!(
                "{file_bytes} bytes are too few for a safetensors file"
            )));
        }
        let mut length = [0; LENGTH_BYTES as usize];
        handle.read_exact_at(&mut length, 0).map_err(unreadable)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES.min(file_bytes - LENGTH_BYTES) {
            return Err(bad(format!(
                "not a safetensors file, or truncated: a header of {header_bytes} bytes in a file of {file_bytes}"
            )));
        }
        let mut header = vec![0; header_bytes as usize];
        handle
            .read_exact_at(&mut header, LENGTH_BYTES)
            .map_err(unreadable)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|e| bad(format!("its header is damaged: {e}")).because(e))?;

        let data = LENGTH_BYTES + header_bytes;
        let mut tensors = BTreeMap::new();
        for name in header.offset_keys() {
            let Some(info) = header.info(&name) else {
                continue;
            };
            let (start, end) = info.data_offsets;
            if end as u64 > file_bytes - data {
                let message = format!(
                    "the file is truncated: {} bytes are missing",
                    end as u64 + data - file_bytes
                );
                return Err(bad(message).in_tensor(&name));
            }
            let shape = info
                .shape
                .iter()
                .map(|&n| i64::try_from(n))
                .collect::<Result<_, _>>();
            let shape =
                shape.map_err(|_| bad("its shape is out of bounds".to_owned()).in_tensor(&name))?;
            let entry = Entry {
                shape,
                dtype: info.dtype,
                offset: data + start as u64,
                bytes: end - start,
            };
            tensors.insert(rename(&name), entry);
        }
        if header.data_len() as u64 != file_bytes - data {
            return Err(bad("bytes follow the last tensor".to_owned()));
        }
        Ok(Checkpoint {
            model: manifest.name.clone(),
            file: file.to_owned(),
            handle,
            tensors,
        })
    }

    /// Returns the rows of a matrix, e.g. the size of a vocabulary.
    pub(crate) fn rows(&self, name: &str) -> Result<i64, Error> {
        match self.entry(name)?.shape.as_slice() {
            &[rows, _] => Ok(rows),
            shape => Err(self.bad(
                name,
                format!("its shape is {shape:?}, not that of a matrix"),
            )),
        }
    }

    /// Checks that a tensor exists, with this shape and a supported type.
    pub(crate) fn expect(&self, name: &str, shape: &[i64]) -> Result<(), Error> {
        let entry = self.entry(name)?;
        if !same_shape(&entry.shape, shape) {
            return Err(self.bad(
                name,
                format!("its shape is {:?}, the model's is {shape:?}", entry.shape),
            ));
        }
        self.kind(name, entry).map(drop)
    }

    /// Copies the file's tensors into a network, in the network's type and on its device. All are
    /// checked first. Calls `progress` with the bytes read.
    pub(crate) fn load_into(
        &self,
        store: &VarStore,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let parameters: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
        for (name, parameter) in &parameters {
            self.expect(name, &parameter.size())?;
        }
        let unused: Vec<&String> = self
            .tensors
            .keys()
            .filter(|name| !parameters.contains_key(*name))
            .collect();
        if !unused.is_empty() {
            tracing::debug!(
                model = %self.model, file = %self.file, ?unused,
                "the model does not use some tensors"
            );
        }
        for (name, mut parameter) in parameters {
            let entry = self.entry(&name)?;
            let mut bytes = vec![0; entry.bytes];
            let read = self.handle.read_exact_at(&mut bytes, entry.offset);
            read.map_err(|e| self.bad(&name, "cannot be read".to_owned()).because(e))?;
            let stored =
                Tensor::f_from_data_size(&bytes, &parameter.size(), self.kind(&name, entry)?)?;
            // Copied to the device as stored, converted there.
            parameter.f_copy_(&stored.f_to_device(store.device())?)?;
            progress(entry.bytes as u64);
        }
        Ok(())
    }

    /// Returns the size of all tensors, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.tensors.values().map(|entry| entry.bytes as u64).sum()
    }

    fn entry(&self, name: &str) -> Result<&Entry, Error> {
        self.tensors
            .get(name)
            .ok_or_else(|| self.bad(name, "missing".to_owned()))
    }

    fn kind(&self, name: &str, entry: &Entry) -> Result<Kind, Error> {
        match entry.dtype {
            Dtype::F16 => Ok(Kind::Half),
            Dtype::BF16 => Ok(Kind::BFloat16),
            Dtype::F32 => Ok(Kind::Float),
            Dtype::F64 => Ok(Kind::Double),
            other => Err(self.bad(
                name,
                format!("its type is {other}; only F16, BF16, F32 and F64 are supported"),
            )),
        }
    }

    fn bad(&self, tensor: &str, message: String) -> Error {
        folder::bad(&self.model, &self.file, message).in_tensor(tensor)
    }
}

/// Compares two shapes. Old checkpoints store a linear layer of attention as a 1×1 convolution,
/// some the reverse.
fn same_shape(stored: &[i64], wanted: &[i64]) -> bool {
    fn matrix(shape: &[i64]) -> &[i64] {
        if let [rest @ .., 1, 1] = shape
            && rest.len() == 2
        {
            rest
        } else {
            shape
        }
    }
    matrix(stored) == matrix(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_1x1_convolution_and_a_linear_layer_are_the_same_numbers() {
        assert!(same_shape(&[8, 4, 1, 1], &[8, 4]));
        assert!(same_shape(&[8, 4], &[8, 4, 1, 1]));
        assert!(!same_shape(&[4, 8], &[8, 4]), "transposed");
        assert!(!same_shape(&[8, 1], &[8]), "a matrix is no bias");
        assert!(!same_shape(&[8, 4, 3, 3], &[8, 4]));
    }
}
