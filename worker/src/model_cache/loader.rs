//! What a cache needs to load models.

/// Loads models.
pub trait Loader {
    /// A model in memory.
    type Model;
    /// Why a load failed.
    type Error;
    /// The caller's context of a load: progress and cancellation.
    type Context<'a>;

    /// Identity of a model's files: changes whenever they do.
    type Version: PartialEq;

    /// Returns the identity of the files of `name`.
    ///
    /// # Errors
    /// The model does not exist.
    fn version(&self, name: &str) -> Result<Self::Version, Self::Error>;

    /// Checks the files of `name`, and returns its size once it is loaded, bytes. Called before
    /// anything is evicted: unknown names and damaged files fail here.
    ///
    /// # Errors
    /// The model does not exist, or it is damaged.
    fn size_bytes(&self, name: &str) -> Result<u64, Self::Error>;

    /// Loads `name`.
    ///
    /// # Errors
    /// The model is damaged, or the load was cancelled.
    fn load(
        &mut self,
        name: &str,
        context: Self::Context<'_>,
    ) -> Result<Loaded<Self::Model>, Self::Error>;

    /// Returns the reason if the error is out of memory.
    fn out_of_memory(_: &Self::Error) -> Option<&str> {
        None
    }

    /// Returns the memory of evicted models to the device.
    fn release_unused_memory(&self) {}

    /// Moves an evicted model to host memory, which frees its memory on the device. By default a
    /// model is in host memory already.
    ///
    /// # Errors
    /// It cannot be moved; the cache drops it.
    fn to_ram(&mut self, _: &mut Self::Model) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Moves a model from host memory to the device.
    ///
    /// # Errors
    /// The device is out of memory, or the move was cancelled; the model stays in host memory.
    fn to_device(&mut self, _: &mut Self::Model, _: Self::Context<'_>) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A loaded model and its size.
#[derive(Debug)]
pub struct Loaded<M> {
    /// The model.
    pub model: M,
    /// Its actual size, bytes.
    pub bytes: u64,
}
