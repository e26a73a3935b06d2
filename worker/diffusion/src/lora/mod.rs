//! LoRAs of requests: small files that change some layers of a loaded model for one request.
//!
//! | module | contents |
//! | --- | --- |
//! | `file` | reads a file |
//! | `metadata` | PEFT's settings in its header |
//! | `names` | the layers that its names mean |

mod file;
mod metadata;
mod names;

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use tch::Tensor;

use crate::device::Device;
use crate::error::Error;
use crate::manifest::Networks;
use crate::networks::{Branch, Slot, Slots};
use crate::request::Lora;
use file::Matrices;
use names::{Names, Target};

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
    /// Of the product.
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
            self.load(lora, device)?;
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
    fn load(&self, Lora { path, name, .. }: &Lora, device: Device) -> Result<(), Error> {
        let invalid = |message: String| Error::invalid("loras", format!("{name}: {message}"));
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
        let file = file::read(&version.path)?;
        let mut unknown = (file.layers.keys()).filter(|name| self.names.targets(name).is_none());
        if let Some(first) = unknown.next() {
            return Err(format!(
                "made for another model: {} of {} layers do not exist in this one, e.g. {first}",
                unknown.count() + 1,
                file.layers.len()
            ));
        }
        let mut adapter = Adapter {
            version,
            layers: Vec::new(),
            bytes: 0,
        };
        for (name, matrices) in &file.layers {
            let targets = self.names.targets(name).unwrap_or_default();
            let slots = (targets.iter())
                .filter_map(|target| Some((target, self.slots.get(&target.layer)?)));
            let slots: Vec<_> = slots.collect();
            let (layers, bytes) = fitted(matrices, file.factor(name), &slots, device)
                .map_err(|problem| format!("{name}: {problem}"))?;
            adapter.bytes += bytes;
            adapter.layers.extend(layers);
        }
        Ok(adapter)
    }
}

/// Brings matrices into the shapes of the branches of all layers that they are for. Returns their
/// size as well, bytes.
fn fitted(
    matrices: &Matrices,
    factor: f64,
    targets: &[(&Target, &Slot)],
    device: Device,
) -> Result<(Vec<AdapterLayer>, usize), String> {
    let (Some(down), Some(up)) = (&matrices.down, &matrices.up) else {
        return Err("one of its two matrices is missing".to_owned());
    };
    let rank = down.size().first().copied().unwrap_or(0);
    let (mut layers, mut bytes) = (Vec::new(), 0);
    let mut shared: Option<Tensor> = None;
    for (target, slot) in targets {
        let (outputs, inputs) = (slot.shape[0], &slot.shape[1..]);
        let down_shape = [&[rank], inputs].concat();
        let up_shape = [&[outputs, rank], &vec![1; inputs.len() - 1][..]].concat();
        if rank == 0
            || up.size().is_empty()
            || !fits(down, &down_shape)
            || !fits(up, &target.view.stored_shape(&up_shape))
        {
            return Err(format!(
                "its shapes {:?} and {:?} do not fit a layer of shape {:?}",
                down.size(),
                up.size(),
                target.view.stored_shape(&slot.shape)
            ));
        }
        let mut placed = |tensor: &Tensor, shape: &[i64]| {
            let tensor = tensor.to_device(device.torch()).to_kind(slot.kind);
            bytes += tensor.numel() * tensor.kind().elt_size_in_bytes();
            tensor.contiguous().view(shape)
        };
        // The layers of one network have one type.
        let down = shared.get_or_insert_with(|| placed(down, &down_shape));
        let up = target.view.of(up).map_err(|error| error.to_string())?;
        layers.push(AdapterLayer {
            layer: target.layer.clone(),
            down: down.shallow_clone(),
            up: placed(&up, &up_shape),
            factor,
        });
    }
    Ok((layers, bytes))
}

/// Returns whether a matrix has a shape, except for sides of 1 at its end.
fn fits(matrix: &Tensor, shape: &[i64]) -> bool {
    matrix.numel() as i64 == shape.iter().product::<i64>() && matrix.size()[0] == shape[0]
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
