//! The weights of loaded networks, to move them between the device and host memory.

use std::cell::RefCell;

use tch::Tensor;

use super::{Branches, Tensors};
use crate::error::Error;

/// The weights of loaded networks: handles that share their tensors with the networks.
#[derive(Debug, Default)]
pub(crate) struct ResidentWeights(Vec<Tensor>);

impl ResidentWeights {
    /// Adds those of another network.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Moves all weights, for the networks as well. After an error some of them are moved.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn move_to(&mut self, device: tch::Device) -> Result<(), Error> {
        for tensor in &mut self.0 {
            if tensor.device() != device {
                replace(tensor, |tensor| Ok(tensor.f_to_device(device)?))?;
            }
        }
        Ok(())
    }
}

/// Replaces the contents of a tensor in all of its handles.
fn replace(
    tensor: &mut Tensor,
    make: impl FnOnce(&Tensor) -> Result<Tensor, Error>,
) -> Result<(), Error> {
    let contents = make(tensor)?;
    Ok(tensor.f_set_data(&contents)?)
}

/// Passes the tensors of a network on, and records them.
pub(crate) struct Recorder<'a> {
    tensors: &'a dyn Tensors,
    recorded: RefCell<Vec<Tensor>>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(tensors: &'a dyn Tensors) -> Self {
        Self {
            tensors,
            recorded: RefCell::default(),
        }
    }

    /// Returns the recorded tensors.
    pub(crate) fn into_weights(self) -> ResidentWeights {
        ResidentWeights(self.recorded.into_inner())
    }
}

impl Tensors for Recorder<'_> {
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
        let tensor = self.tensors.tensor(name, shape)?;
        self.recorded.borrow_mut().push(tensor.shallow_clone());
        Ok(tensor)
    }

    fn add_slot(&self, name: &str, weight: &Tensor, branches: &Branches) {
        self.tensors.add_slot(name, weight, branches);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Catalog, Device, Pipeline, Request};

    impl ResidentWeights {
        /// Replaces the contents of each tensor.
        fn replace_all(&mut self, make: impl Fn(&Tensor) -> Tensor) {
            for tensor in &mut self.0 {
                replace(tensor, |tensor| Ok(make(tensor))).unwrap();
            }
        }
    }

    #[test]
    fn the_networks_of_a_model_use_the_moved_weights_which_are_all_of_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
        let manifest = Catalog::open(&folder).unwrap().manifest("shapes").unwrap();
        let mut pipeline = Pipeline::load(&manifest, &Device::Cpu, &mut |_| {}).unwrap();
        let bytes = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
        let total: usize = pipeline.weights.0.iter().map(bytes).sum();
        assert_eq!(total as u64, pipeline.memory_bytes());

        let request = Request {
            prompt: "a red circle on a blue background".to_owned(),
            seed: 7,
            steps: Some(2),
            ..Request::default()
        };
        let draw = |pipeline: &Pipeline| pipeline.generate(&request, &mut ());
        let before = draw(&pipeline).unwrap();
        pipeline.move_to_ram().unwrap();
        pipeline.weights.replace_all(Tensor::copy);
        pipeline.move_to_device().unwrap();
        assert_eq!(draw(&pipeline).unwrap(), before);
        pipeline.weights.replace_all(|tensor| tensor * f64::NAN);
        assert!(draw(&pipeline).is_err(), "the networks have other tensors");
    }
}
