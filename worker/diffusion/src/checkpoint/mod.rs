//! The safetensors files of a network. Opening checks their whole headers; [`Checkpoint::check`]
//! compares them with a network before anything is read. An error about a damaged file contains the
//! file and the tensor.
//!
//! A network is built from tensors without contents ([`arena`]), which threads then fill ([`fill`])
//! from known places ([`span`]) through small buffers ([`staging`]), converting [`number`]s on the
//! way. Files are read instead of mapped: truncating a mapped file kills the process.

mod arena;
mod fill;
mod header;
mod number;
mod plan;
mod span;
mod staging;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;

use tch::{Kind, Tensor};

use crate::device::Device;
use crate::error::Error;
use crate::folder;
use crate::manifest::Manifest;
use crate::networks::{Slots, Tensors, Weights};
use crate::original_names::Stored;
use crate::single_file::Component;
use crate::unsupported::{LFS_MESSAGE, is_lfs_pointer_file};
use crate::weight_files::WeightFiles;
use fill::fill;
use header::{Entry, read_header};
use number::Number;
use plan::{Plan, Work};
use span::Span;

pub(crate) use header::header;

pub(crate) struct Checkpoint {
    model: String,
    /// Folder of the component, e.g. `unet`.
    component: String,
    /// Never empty.
    files: Vec<OpenFile>,
    /// By the network's name of the tensor, or by the name inside the part of a single file.
    tensors: BTreeMap<String, Entry>,
    /// Where the network's tensors are in a single file.
    part: Option<Component>,
}

struct OpenFile {
    /// Relative to the model's folder.
    name: String,
    handle: File,
}

impl Checkpoint {
    /// Opens the files of a component, e.g. of `unet/diffusion_pytorch_model`; `rename` maps a
    /// stored name to the network's.
    pub(crate) fn open(
        manifest: &Manifest,
        stem: &str,
        rename: fn(&str) -> String,
    ) -> Result<Checkpoint, Error> {
        let mut checkpoint = Checkpoint {
            model: manifest.name.clone(),
            component: stem.split('/').next().unwrap_or(stem).to_owned(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            part: None,
        };
        let files = WeightFiles::find(manifest, stem)?;
        checkpoint.part = files.component().cloned();
        for file in files.names() {
            let path = manifest.folder().join(file);
            if is_lfs_pointer_file(&path) {
                return Err(manifest.bad(file, LFS_MESSAGE));
            }
            let handle = File::open(path);
            let handle = handle.map_err(|e| manifest.bad(file, "cannot be read").because(e))?;
            let bad = |message: String| manifest.bad(file, message);
            let index = checkpoint.files.len();
            for (name, entry) in read_header(&handle, index, &bad)? {
                let network_name = match &checkpoint.part {
                    Some(part) => match part.inner_name(&name) {
                        Some(inner) => inner.to_owned(),
                        None => continue,
                    },
                    None => rename(&name),
                };
                if checkpoint.tensors.insert(network_name, entry).is_some() {
                    let message = "it is stored twice".to_owned();
                    return Err(bad(message).in_tensor(&name));
                }
            }
            let name = file.clone();
            checkpoint.files.push(OpenFile { name, handle });
        }
        Ok(checkpoint)
    }

    /// Returns the component's name, e.g. `unet`.
    pub(crate) fn component(&self) -> &str {
        &self.component
    }

    /// Returns the rows of a matrix, e.g. the size of a vocabulary.
    pub(crate) fn rows(&self, name: &str) -> Result<i64, Error> {
        match self.entry(&self.stored(name).name)?.shape.as_slice() {
            &[rows, _] => Ok(rows),
            shape => Err(self.bad(
                name,
                format!("its shape is {shape:?}, not that of a matrix"),
            )),
        }
    }

    /// Compares the header with the network that `build` builds: every tensor of the network
    /// exists, with its shape and a supported type, and every tensor of the file has a use.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] names the first tensor that is missing, different or without use.
    pub(crate) fn check<N>(
        &self,
        build: impl FnOnce(&Weights<'_>) -> Result<N, Error>,
    ) -> Result<(), Error> {
        let header = Header {
            checkpoint: self,
            used: RefCell::default(),
        };
        build(&Weights::root(&header))?;
        let used = header.used.into_inner();
        let is_unused = |name: &&String| !used.contains(*name) && !IGNORED.contains(&name.as_str());
        match self.tensors.keys().find(is_unused) {
            Some(unused) => Err(self.bad(
                unused,
                "a network of this family has no use for it".to_owned(),
            )),
            None => Ok(()),
        }
    }

    /// Loads the network that `build` builds, and returns its layers that can have branches. Calls
    /// `progress` with the bytes of each part that was read. `build` does not compute with the
    /// tensors: they have no contents yet.
    ///
    /// # Errors
    /// Those of [`Checkpoint::check`], except for tensors without use; a tensor cannot be read.
    pub(crate) fn load<N>(
        &self,
        destination: Destination,
        progress: &mut dyn FnMut(u64),
        build: impl FnOnce(&Weights<'_>) -> Result<N, Error>,
    ) -> Result<(N, Slots), Error> {
        let plan = Plan::new(self, destination);
        let network = build(&Weights::root(&plan))?;
        let Work {
            fills,
            transpositions,
            slots,
        } = plan.into_work();
        fill(self, destination.device, fills, progress)?;
        for transposition in transpositions {
            transposition.carry_out()?;
        }
        Ok((network, slots))
    }

    /// Returns the stored tensor of a tensor with the network's name.
    fn stored(&self, name: &str) -> Stored {
        match &self.part {
            Some(part) => part.stored(name),
            None => Stored::whole(name),
        }
    }

    /// Returns the place of a stored tensor with this shape and a supported type.
    fn span(&self, name: &str, shape: &[i64]) -> Result<Span, Error> {
        let entry = self.entry(name)?;
        if !same_shape(&entry.shape, shape) {
            return Err(self.bad(
                name,
                format!("its shape is {:?}, the model's is {shape:?}", entry.shape),
            ));
        }
        let number = Number::of(entry.dtype).ok_or_else(|| {
            let supported = "only F16, BF16, F32 and F64 are supported";
            self.bad(name, format!("its type is {}; {supported}", entry.dtype))
        })?;
        Ok(Span {
            file: entry.file,
            offset: entry.offset,
            number,
            len: entry.bytes / number.bytes(),
        })
    }

    /// Returns the size of all tensors, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.tensors.values().map(|entry| entry.bytes as u64).sum()
    }

    /// Returns the size of all tensors in another type, bytes.
    pub(crate) fn bytes_as(&self, kind: Kind) -> u64 {
        let numbers = self
            .tensors
            .values()
            .map(|entry| entry.shape.iter().product::<i64>());
        numbers.sum::<i64>().unsigned_abs() * kind.elt_size_in_bytes() as u64
    }

    /// Returns the stored types: `f16`.
    pub(crate) fn types(&self) -> impl Iterator<Item = String> {
        let types = self.tensors.values().map(|entry| entry.dtype);
        types.map(|dtype| dtype.to_string().to_lowercase())
    }

    fn entry(&self, name: &str) -> Result<&Entry, Error> {
        self.tensors
            .get(name)
            .ok_or_else(|| self.bad(name, "missing".to_owned()))
    }

    fn file(&self, index: usize) -> &File {
        &self.files[index].handle
    }

    fn unreadable(&self, tensor: &str, error: io::Error) -> Error {
        self.bad(tensor, "cannot be read".to_owned()).because(error)
    }

    fn bad(&self, tensor: &str, message: String) -> Error {
        let file = self.tensors.get(tensor).map_or(0, |entry| entry.file);
        folder::bad(&self.model, &self.files[file].name, message).in_tensor(tensor)
    }
}

/// Tensors that some exporters store although they are no weights.
const IGNORED: [&str; 2] = ["embeddings.position_ids", "encoder.embed_tokens.weight"];

/// Where, and in which type, tensors are loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Destination {
    pub(crate) device: Device,
    pub(crate) kind: Kind,
}

/// Checks tensors without reading them.
struct Header<'a> {
    checkpoint: &'a Checkpoint,
    used: RefCell<BTreeSet<String>>,
}

impl Tensors for Header<'_> {
    /// Returns an empty tensor.
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
        let Stored { name, view } = self.checkpoint.stored(name);
        self.checkpoint.span(&name, &view.stored_shape(shape))?;
        self.used.borrow_mut().insert(name);
        Ok(Tensor::new())
    }
}

/// Returns the memory of a contiguous tensor of the processor, to which nothing else refers yet.
#[allow(
    unsafe_code,
    reason = "tch can fill a tensor only from a second copy in memory"
)]
fn bytes_of(tensor: &mut Tensor) -> &mut [u8] {
    let bytes = tensor.numel() * tensor.kind().elt_size_in_bytes();
    if bytes == 0 {
        // It may have no memory at all.
        return &mut [];
    }
    // SAFETY: a contiguous tensor has this many bytes, any bit pattern is a valid number, and the
    // borrow keeps them allocated. A network that has the same tensor is not used before it is
    // filled.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), bytes) }
}

/// Old checkpoints store a linear layer of attention as a 1×1 convolution, some the reverse.
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
