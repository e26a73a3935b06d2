//! LoRAs of requests: small files that change some layers of a loaded model for one request.
//!
//! | module | contents |
//! | --- | --- |
//! | `file` | reads a file |
//! | `names` | the layers that its names mean |

mod file;
mod names;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tch::Tensor;

use crate::device::Device;
use crate::error::Error;
use crate::manifest::Networks;
use crate::networks::{Branch, Slot, Slots};
use crate::request::Lora;
use file::Matrices;
use names::Names;

/// Memory limit of the files that stay loaded for later requests, bytes.
const MAX_CACHED_BYTES: usize = 512 << 20;

/// The layers of a model that LoRAs change, and recently used LoRAs.
pub(crate) struct Loras {
    slots: Slots,
    names: Names,
    /// Least recently used first.
    cache: RefCell<Vec<Adapter>>,
}

/// A loaded LoRA.
struct Adapter {
    version: Version,
    layers: Vec<AdapterLayer>,
    bytes: usize,
}

struct AdapterLayer {
    /// Key of [`Slots`].
    layer: String,
    down: Tensor,
    up: Tensor,
    /// `alpha / rank`.
    factor: f64,
}

/// Identity of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Loras {
    pub(crate) fn new(slots: Slots, networks: &Networks) -> Self {
        Self {
            names: Names::new(slots.keys(), networks),
            slots,
            cache: RefCell::default(),
        }
    }

    /// Drops recently used LoRAs.
    pub(crate) fn clear(&self) {
        self.cache.borrow_mut().clear();
    }

    /// Adds the LoRAs to the model's layers until the result is dropped.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`]: a file cannot be read, or does not fit the model.
    pub(crate) fn attach(&self, loras: &[Lora], device: Device) -> Result<Attached<'_>, Error> {
        let mut attached = Attached(Vec::new());
        for lora in loras {
            self.load(&lora.path, device)?;
            let cache = self.cache.borrow();
            for layer in cache
                .iter()
                .last()
                .into_iter()
                .flat_map(|adapter| &adapter.layers)
            {
                let Some(slot) = self.slots.get(&layer.layer) else {
                    continue;
                };
                attached.0.push(slot);
                slot.branches.add(Branch {
                    down: layer.down.shallow_clone(),
                    up: layer.up.shallow_clone(),
                    scale: lora.scale * layer.factor,
                });
            }
        }
        Ok(attached)
    }

    /// Makes a LoRA the last one of the cache, and reads it if it is not in there.
    fn load(&self, path: &Path, device: Device) -> Result<(), Error> {
        let invalid = |message: String| {
            let name = path.file_name().unwrap_or(path.as_os_str());
            Error::invalid("loras", format!("{}: {message}", name.display()))
        };
        let found = fs::metadata(path).map_err(|e| invalid(format!("cannot be read: {e}")))?;
        let version = Version {
            path: path.to_owned(),
            bytes: found.len(),
            modified: found.modified().ok(),
        };
        let mut cache = self.cache.borrow_mut();
        let cached = cache.iter().position(|adapter| adapter.version == version);
        let adapter = match cached {
            Some(index) => cache.remove(index),
            None => self.read(version, device).map_err(invalid)?,
        };
        cache.push(adapter);
        while cache.len() > 1
            && cache.iter().map(|adapter| adapter.bytes).sum::<usize>() > MAX_CACHED_BYTES
        {
            cache.remove(0);
        }
        Ok(())
    }

    fn read(&self, version: Version, device: Device) -> Result<Adapter, String> {
        let matrices = file::read(&version.path)?;
        let mut unknown = matrices
            .keys()
            .filter(|name| self.names.layer(name).is_none());
        if let Some(first) = unknown.next() {
            return Err(format!(
                "made for another model: {} of {} layers do not exist in this one, e.g. {first}",
                unknown.count() + 1,
                matrices.len()
            ));
        }
        let mut adapter = Adapter {
            version,
            layers: Vec::new(),
            bytes: 0,
        };
        for (name, matrices) in matrices {
            let known = self.names.layer(&name);
            let Some((layer, slot)) = known.and_then(|layer| self.slots.get_key_value(layer))
            else {
                continue;
            };
            let layer = fitted(matrices, layer, slot, device)
                .map_err(|problem| format!("{name}: {problem}"))?;
            let bytes = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
            adapter.bytes += bytes(&layer.down) + bytes(&layer.up);
            adapter.layers.push(layer);
        }
        Ok(adapter)
    }
}

/// Brings the matrices into the shapes of a layer's branch.
fn fitted(
    matrices: Matrices,
    layer: &str,
    slot: &Slot,
    device: Device,
) -> Result<AdapterLayer, String> {
    let (Some(down), Some(up)) = (matrices.down, matrices.up) else {
        return Err("one of its two matrices is missing".to_owned());
    };
    let (outputs, inputs) = (slot.shape[0], &slot.shape[1..]);
    let rank = down.size().first().copied().unwrap_or(0);
    let down_shape = [&[rank], inputs].concat();
    let up_shape = [&[outputs, rank], &vec![1; inputs.len() - 1][..]].concat();
    let fits = |tensor: &Tensor, shape: &[i64]| {
        tensor.numel() as i64 == shape.iter().product::<i64>() && tensor.size()[0] == shape[0]
    };
    if rank == 0 || up.size().is_empty() || !fits(&down, &down_shape) || !fits(&up, &up_shape) {
        return Err(format!(
            "its shapes {:?} and {:?} do not fit a layer of shape {:?}",
            down.size(),
            up.size(),
            slot.shape
        ));
    }
    let placed = |tensor: Tensor, shape: &[i64]| {
        let tensor = tensor.to_device(device.torch());
        tensor.to_kind(slot.kind).view(shape)
    };
    Ok(AdapterLayer {
        layer: layer.to_owned(),
        down: placed(down, &down_shape),
        up: placed(up, &up_shape),
        factor: matrices.alpha.map_or(1.0, |alpha| alpha / rank as f64),
    })
}

/// LoRAs that are in effect.
pub(crate) struct Attached<'a>(Vec<&'a Slot>);

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        for slot in &self.0 {
            slot.branches.clear();
        }
    }
}
