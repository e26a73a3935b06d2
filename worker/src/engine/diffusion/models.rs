//! Loads the models of a catalog onto a device, and knows their sizes.

use std::cell::RefCell;
use std::collections::BTreeMap;

use warmq_diffusion::{Catalog, Device, Error, LoadStep, Part, Pipeline, Stamp};
use warmq_types::job::{Phase, Progress};

use crate::engine::RunContext;
use crate::model_cache::{Loaded, Loader};

/// The models of a folder, and the device that they are loaded onto.
pub(super) struct Models {
    pub(super) catalog: Catalog,
    pub(super) device: Device,
    sizes: RefCell<BTreeMap<String, Size>>,
}

/// The size of a model with these files, which were found undamaged.
struct Size {
    stamp: Stamp,
    bytes: u64,
}

impl Models {
    pub(super) fn new(catalog: Catalog, device: Device) -> Self {
        Self {
            catalog,
            device,
            sizes: RefCell::default(),
        }
    }

    /// Returns a model's size on the device as of its last check, without reading its folder.
    pub(super) fn known_bytes(&self, name: &str) -> Option<u64> {
        self.sizes.borrow().get(name).map(|size| size.bytes)
    }
}

impl Loader for Models {
    type Model = Pipeline;
    type Error = Error;
    type Context<'a> = &'a mut dyn RunContext;
    type Version = Stamp;

    fn version(&self, name: &str) -> Result<Stamp, Error> {
        self.catalog.stamp(name)
    }

    /// Reads the headers of the files only if they changed since the last call.
    fn size_bytes(&self, name: &str) -> Result<u64, Error> {
        // Read before the files, so that a change meanwhile is found by the next call.
        let stamp = self.catalog.stamp(name)?;
        if let Some(size) = self.sizes.borrow().get(name)
            && size.stamp == stamp
        {
            return Ok(size.bytes);
        }
        self.sizes.borrow_mut().remove(name);
        let manifest = self.catalog.manifest(name)?;
        let bytes = Pipeline::weight_sizes(&manifest)?.on(self.device);
        let size = Size { stamp, bytes };
        self.sizes.borrow_mut().insert(name.to_owned(), size);
        Ok(bytes)
    }

    fn load(
        &mut self,
        name: &str,
        context: &mut dyn RunContext,
    ) -> Result<Loaded<Pipeline>, Error> {
        let manifest = self.catalog.manifest(name)?;
        let mut reported = None;
        let mut progress = |step: LoadStep| {
            let percent = step.bytes.saturating_mul(100) / step.total_bytes.max(1);
            if reported.replace(percent) != Some(percent) {
                // A load cannot be interrupted; cancellation is checked after it.
                let percent = u32::try_from(percent).unwrap_or(100).min(100);
                let _ = context.progress(Progress::at(Phase::Loading, percent, 100));
            }
        };
        progress(LoadStep {
            part: Part::TextEncoder,
            bytes: 0,
            total_bytes: 1,
        });
        let model = Pipeline::load(&manifest, &self.device, &mut progress)?;
        Ok(Loaded {
            bytes: model.memory_bytes(),
            model,
        })
    }

    fn out_of_memory(error: &Error) -> Option<&str> {
        match error {
            Error::OutOfMemory { details, .. } => Some(details),
            _ => None,
        }
    }

    fn release_unused_memory(&self) {
        self.device.release_unused_memory();
    }

    fn to_ram(&mut self, model: &mut Pipeline) -> Result<(), Error> {
        model.move_to_ram()
    }

    /// Reports progress once: a move takes a fraction of a load.
    fn to_device(
        &mut self,
        model: &mut Pipeline,
        context: &mut dyn RunContext,
    ) -> Result<(), Error> {
        let _ = context.progress(Progress::at(Phase::Loading, 0, 100));
        model.move_to_device()
    }
}
