//! The safetensors files of a network. Opening checks their whole headers; [`Checkpoint::check`]
//! compares them with a network before anything is read. An error about a damaged file contains the
//! file and the tensor.
//!
//! A file is read one tensor at a time instead of mapped: truncating a mapped file kills the
//! process.

mod header;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

use safetensors::tensor::Dtype;
use tch::{Kind, Tensor};

use crate::device::Device;
use crate::error::Error;
use crate::folder;
use crate::manifest::Manifest;
use crate::networks::{Branches, Slot, Slots, Tensors, Weights};
use crate::original_names::Stored;
use crate::single_file::Component;
use crate::unsupported::{LFS_MESSAGE, is_lfs_pointer_file};
use crate::weight_files::WeightFiles;
use header::{Entry, read_header};

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
    /// `progress` with the bytes of each tensor.
    ///
    /// # Errors
    /// Those of [`Checkpoint::check`], except for tensors without use; a tensor cannot be read.
    pub(crate) fn load<N>(
        &self,
        destination: Destination,
        progress: &mut dyn FnMut(u64),
        build: impl FnOnce(&Weights<'_>) -> Result<N, Error>,
    ) -> Result<(N, Slots), Error> {
        let loader = Loader {
            checkpoint: self,
            destination,
            progress: RefCell::new(progress),
            slots: RefCell::default(),
        };
        let network = build(&Weights::root(&loader))?;
        Ok((network, loader.slots.into_inner()))
    }

    /// Returns the stored tensor of a tensor with the network's name.
    fn stored(&self, name: &str) -> Stored {
        match &self.part {
            Some(part) => part.stored(name),
            None => Stored::whole(name),
        }
    }

    /// Returns the entry of a stored tensor with this shape and a supported type.
    fn expect(&self, name: &str, shape: &[i64]) -> Result<(&Entry, Kind), Error> {
        let entry = self.entry(name)?;
        if !same_shape(&entry.shape, shape) {
            return Err(self.bad(
                name,
                format!("its shape is {:?}, the model's is {shape:?}", entry.shape),
            ));
        }
        Ok((entry, self.kind(name, entry)?))
    }

    /// Reads a tensor into the processor's memory, in its stored type.
    fn read(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
        let Stored { name, view } = self.stored(name);
        let (entry, kind) = self.expect(&name, &view.stored_shape(shape))?;
        let mut part = Tensor::f_empty(view.part_shape(shape), (kind, tch::Device::Cpu))?;
        let before = view.numbers_before(shape).unsigned_abs() * kind.elt_size_in_bytes() as u64;
        let file = &self.files[entry.file].handle;
        let read = file.read_exact_at(bytes_of(&mut part), entry.offset + before);
        read.map_err(|e| self.bad(&name, "cannot be read".to_owned()).because(e))?;
        Ok(view.arranged(part)?)
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
        self.checkpoint.expect(&name, &view.stored_shape(shape))?;
        self.used.borrow_mut().insert(name);
        Ok(Tensor::new())
    }
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    destination: Destination,
    progress: RefCell<&'a mut dyn FnMut(u64)>,
    slots: RefCell<Slots>,
}

impl Tensors for Loader<'_> {
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
        let Destination { device, kind } = self.destination;
        let stored = self.checkpoint.read(name, shape)?;
        let bytes = stored.numel() * stored.kind().elt_size_in_bytes();
        // Copied to the device as stored, converted there.
        let tensor = stored.f_to_device(device.torch())?.f_to_kind(kind)?;
        (self.progress.borrow_mut())(bytes as u64);
        Ok(tensor)
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

/// Returns the memory of a contiguous tensor of the processor.
#[allow(
    unsafe_code,
    reason = "tch can fill a tensor only from a second copy in memory"
)]
fn bytes_of(tensor: &mut Tensor) -> &mut [u8] {
    let bytes = tensor.numel() * tensor.kind().elt_size_in_bytes();
    // SAFETY: a new tensor is contiguous and owns this many bytes; any bit pattern is a valid
    // number; the borrow keeps the tensor alive and unshared.
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
