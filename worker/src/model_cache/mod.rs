//! Loaded models within a memory budget; a miss evicts the least recently used ones first.
//!
//! Room is made for a model's exact size, after its files were checked.
//!
//! | module | contents |
//! | --- | --- |
//! | [`eviction`] | the models to evict for another |
//! | [`shortage`] | what follows when the device is out of memory |
//! | [`slots`] | the number of models that fit at once |

pub mod eviction;
pub mod shortage;
pub mod slots;

use eviction::{CachedModel, DoesNotFit};
use shortage::Remedy;

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
}

/// A loaded model and its size.
#[derive(Debug)]
pub struct Loaded<M> {
    /// The model.
    pub model: M,
    /// Its actual size, bytes.
    pub bytes: u64,
}

/// The model exceeds the whole budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model '{model}' does not fit: {reason}")]
pub struct TooLarge {
    /// The model's name.
    pub model: String,
    /// The sizes.
    pub reason: DoesNotFit,
}

/// Why a model cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The model exceeds the whole budget.
    TooLarge(TooLarge),
    /// The loader failed.
    Load(E),
    /// The device is out of memory although no other model is loaded.
    ExceedsDevice(E),
}

/// The loaded models.
#[derive(Debug)]
pub struct ModelCache<L: Loader> {
    loader: L,
    budget_bytes: u64,
    // A handful at most: a scan is faster than an index.
    entries: Vec<Entry<L::Model, L::Version>>,
    uses: u64,
}

#[derive(Debug)]
struct Entry<M, V> {
    name: String,
    model: M,
    version: V,
    bytes: u64,
    last_used: u64,
}

impl<L: Loader> ModelCache<L> {
    /// Creates an empty cache of `budget_bytes`.
    pub fn new(loader: L, budget_bytes: u64) -> Self {
        Self {
            loader,
            budget_bytes,
            entries: Vec::new(),
            uses: 0,
        }
    }

    /// Returns whether `name` is loaded.
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// Returns the model `name`, loads it if needed, and marks it most recently used.
    ///
    /// # Errors
    /// See [`Error`]. After a failed load, models evicted for it stay evicted; the others stay
    /// loaded.
    pub fn get(
        &mut self,
        name: &str,
        context: L::Context<'_>,
    ) -> Result<&mut L::Model, Error<L::Error>> {
        let index = match self.position(name) {
            Some(index) => index,
            None => self.load(name, context)?,
        };
        self.uses += 1;
        let entry = &mut self.entries[index];
        entry.last_used = self.uses;
        Ok(&mut entry.model)
    }

    /// Names of the loaded models, least recently used first.
    pub fn names(&self) -> Vec<&str> {
        let mut entries: Vec<&Entry<L::Model, L::Version>> = self.entries.iter().collect();
        entries.sort_by_key(|entry| entry.last_used);
        entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    /// Returns the total size of the loaded models, bytes.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    /// Returns how many models fit at once: the loaded ones, and then the largest of the `others`,
    /// given by their sizes. While fewer are loaded, a load of any of the others evicts nothing.
    pub fn slots(&self, others: impl IntoIterator<Item = u64>) -> u32 {
        let loaded: Vec<u64> = self.entries.iter().map(|entry| entry.bytes).collect();
        slots::slots(&loaded, others, self.budget_bytes)
    }

    /// Runs `attempt`, which uses `name`, and again after each [`Remedy`] while it runs out of
    /// memory. `name` stays loaded.
    ///
    /// # Errors
    /// The last attempt's error; [`Error::ExceedsDevice`] if no other model was loaded.
    pub fn with_room<T>(
        &mut self,
        name: &str,
        mut attempt: impl FnMut(&mut Self) -> Result<T, Error<L::Error>>,
    ) -> Result<T, Error<L::Error>> {
        let mut failures = 0;
        loop {
            let error = match attempt(self) {
                Err(Error::Load(error)) => error,
                other => return other,
            };
            let Some(reason) = L::out_of_memory(&error) else {
                return Err(Error::Load(error));
            };
            failures += 1;
            let remedy = shortage::remedy(failures, name, &self.held());
            tracing::warn!(model = name, reason, ?remedy, "out of memory");
            let end = match remedy {
                Remedy::ReleaseUnused => None,
                Remedy::Evict(victim) => {
                    let victim = victim.to_owned();
                    self.entries.retain(|entry| entry.name != victim);
                    None
                }
                Remedy::GiveUp => Some(Error::Load(error)),
                Remedy::ExceedsDevice => Some(Error::ExceedsDevice(error)),
            };
            // After the last attempt too: the memory that it took in vain.
            self.loader.release_unused_memory();
            if let Some(error) = end {
                return Err(error);
            }
        }
    }

    /// Evicts `name` if its files changed since it was loaded, or no longer exist.
    pub fn drop_if_changed(&mut self, name: &str) {
        let Some(index) = self.position(name) else {
            return;
        };
        let now = self.loader.version(name).ok();
        if now.as_ref() != Some(&self.entries[index].version) {
            tracing::info!(model = name, "a model's files changed: evicting it");
            self.entries.remove(index);
        }
    }

    /// Returns the loader.
    pub fn loader(&self) -> &L {
        &self.loader
    }

    /// Loads `name` and returns its index.
    fn load(&mut self, name: &str, context: L::Context<'_>) -> Result<usize, Error<L::Error>> {
        // Read before the load, so that a change during it is detected at the next job.
        let version = self.loader.version(name).map_err(Error::Load)?;
        let size = self.loader.size_bytes(name).map_err(Error::Load)?;
        self.make_room(name, size)?;
        let Loaded { model, bytes } = self.loader.load(name, context).map_err(Error::Load)?;
        // The files may have changed since their size was read. A model that alone exceeds the
        // budget is dropped here.
        self.make_room(name, bytes)?;
        self.entries.push(Entry {
            name: name.to_owned(),
            model,
            version,
            bytes,
            last_used: self.uses,
        });
        Ok(self.entries.len() - 1)
    }

    fn make_room(&mut self, model: &str, bytes: u64) -> Result<(), Error<L::Error>> {
        let victims: Vec<String> = eviction::victims(&self.held(), bytes, self.budget_bytes)
            .map_err(|reason| {
                Error::TooLarge(TooLarge {
                    model: model.to_owned(),
                    reason,
                })
            })?
            .into_iter()
            .map(str::to_owned)
            .collect();
        if !victims.is_empty() {
            tracing::info!(model, evicted = %victims.join(", "), "evicting models");
        }
        self.entries.retain(|entry| !victims.contains(&entry.name));
        Ok(())
    }

    fn held(&self) -> Vec<CachedModel<'_>> {
        let held = self.entries.iter().map(|entry| CachedModel {
            name: &entry.name,
            bytes: entry.bytes,
            last_used: entry.last_used,
        });
        held.collect()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name == name)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const OUT_OF_MEMORY: &str = "out of memory";

    /// Models named by their size; the files of `5-really-9` grow from 5 to 9 before a load;
    /// `broken…` fails to load.
    #[derive(Default)]
    struct Sizes {
        loads: Vec<String>,
        version: Cell<u32>,
        /// Loads for which the device has no memory.
        short_loads: u32,
        releases: Cell<u32>,
    }

    impl Loader for Sizes {
        type Model = String;
        type Error = String;
        type Context<'a> = ();
        type Version = u32;

        fn version(&self, _: &str) -> Result<u32, String> {
            Ok(self.version.get())
        }

        fn size_bytes(&self, name: &str) -> Result<u64, String> {
            let digits = name.trim_start_matches("broken").split('-').next();
            digits
                .unwrap_or_default()
                .parse()
                .map_err(|_| format!("unknown {name}"))
        }

        fn load(&mut self, name: &str, (): ()) -> Result<Loaded<String>, String> {
            self.loads.push(name.to_owned());
            if name.starts_with("broken") {
                return Err(format!("{name} is damaged"));
            }
            if self.short_loads > 0 {
                self.short_loads -= 1;
                return Err(OUT_OF_MEMORY.to_owned());
            }
            let bytes = match name.split_once("-really-") {
                Some((_, real)) => real.parse().unwrap(),
                None => self.size_bytes(name)?,
            };
            Ok(Loaded {
                model: name.to_owned(),
                bytes,
            })
        }

        fn out_of_memory(error: &String) -> Option<&str> {
            Some(error.as_str()).filter(|error| *error == OUT_OF_MEMORY)
        }

        fn release_unused_memory(&self) {
            self.releases.set(self.releases.get() + 1);
        }
    }

    fn cache() -> ModelCache<Sizes> {
        ModelCache::new(Sizes::default(), 10)
    }

    #[test]
    fn a_hit_loads_nothing_and_renews() {
        let mut cache = cache();
        for name in ["3-a", "3-b", "3-c", "3-a"] {
            assert_eq!(cache.get(name, ()).unwrap(), name);
        }
        assert_eq!(cache.names(), ["3-b", "3-c", "3-a"]);
        assert_eq!(cache.loader().loads.len(), 3);
        cache.get("3-d", ()).unwrap();
        assert_eq!(cache.names(), ["3-c", "3-a", "3-d"]);
        assert_eq!(cache.bytes(), 9);
    }

    #[test]
    fn a_model_over_the_budget_is_refused_by_name_and_nothing_is_dropped() {
        let mut cache = cache();
        cache.get("3-a", ()).unwrap();
        let Err(Error::TooLarge(refused)) = cache.get("11", ()) else {
            panic!("it was loaded");
        };
        assert_eq!(
            refused.to_string(),
            "model '11' does not fit: it needs 11 bytes and the memory budget is 10 bytes"
        );
        assert_eq!(cache.names(), ["3-a"]);
        assert_eq!(cache.loader().loads, ["3-a"]);
    }

    #[test]
    fn a_model_that_grew_before_its_load_counts_as_it_is() {
        let mut cache = cache();
        cache.get("3-a", ()).unwrap();
        cache.get("5-really-9", ()).unwrap();
        assert_eq!(cache.names(), ["5-really-9"]);
        assert!(matches!(
            cache.get("5-really-12", ()),
            Err(Error::TooLarge(_))
        ));
        assert!(cache.bytes() <= 10);
    }

    #[test]
    fn a_model_whose_files_changed_is_loaded_again() {
        let mut cache = cache();
        cache.get("3-a", ()).unwrap();
        cache.get("3-b", ()).unwrap();
        cache.drop_if_changed("3-a");
        assert!(cache.contains("3-a"));
        cache.loader().version.set(1);
        cache.drop_if_changed("3-a");
        assert_eq!(cache.names(), ["3-b"]);
        cache.get("3-a", ()).unwrap();
        cache.drop_if_changed("3-a");
        assert_eq!(cache.loader().loads, ["3-a", "3-b", "3-a"]);
    }

    /// Draws with a model, on a device that has memory for so many models beside the picture.
    fn draw(
        cache: &mut ModelCache<Sizes>,
        name: &str,
        room: usize,
    ) -> Result<usize, Error<String>> {
        let mut attempts = 0;
        cache.with_room(name, |cache| {
            attempts += 1;
            cache.get(name, ())?;
            match cache.names().len() <= room {
                true => Ok(attempts),
                false => Err(Error::Load(OUT_OF_MEMORY.to_owned())),
            }
        })
    }

    #[test]
    fn a_picture_that_does_not_fit_beside_the_models_evicts_no_more_than_it_takes() {
        let mut cache = cache();
        for name in ["3-a", "3-b", "3-c"] {
            cache.get(name, ()).unwrap();
        }
        assert_eq!(draw(&mut cache, "3-b", 3), Ok(1));
        assert_eq!(cache.loader().releases.get(), 0);
        assert_eq!(draw(&mut cache, "3-b", 2), Ok(3));
        assert_eq!(cache.names(), ["3-c", "3-b"]);
        assert_eq!(draw(&mut cache, "3-b", 1), Ok(3));
        assert_eq!(cache.names(), ["3-b"]);
        assert_eq!(cache.loader().releases.get(), 4);
        assert_eq!(cache.loader().loads.len(), 3, "it stayed loaded");
    }

    #[test]
    fn memory_that_nothing_uses_is_released_before_a_model_is_evicted() {
        let mut cache = cache();
        cache.get("3-a", ()).unwrap();
        cache.loader.short_loads = 1;
        assert_eq!(draw(&mut cache, "3-b", 9), Ok(2));
        assert_eq!(cache.names(), ["3-a", "3-b"]);
    }

    #[test]
    fn a_model_that_does_not_fit_on_the_device_is_loaded_without_the_oldest() {
        let mut cache = cache();
        cache.get("3-a", ()).unwrap();
        cache.get("3-b", ()).unwrap();
        cache.loader.short_loads = 2;
        assert_eq!(draw(&mut cache, "3-c", 9), Ok(3));
        assert_eq!(cache.names(), ["3-b", "3-c"]);
    }

    #[test]
    fn a_picture_that_exceeds_the_device_alone_leaves_its_model_loaded() {
        let mut cache = cache();
        cache.get("3-a", ()).unwrap();
        let short = Err(Error::ExceedsDevice(OUT_OF_MEMORY.to_owned()));
        assert_eq!(draw(&mut cache, "3-b", 0), short);
        assert_eq!(cache.names(), ["3-b"]);
        assert_eq!(cache.loader().loads, ["3-a", "3-b"]);
        assert_eq!(cache.loader().releases.get(), 3);
    }

    #[test]
    fn a_load_that_the_slots_promise_room_for_evicts_nothing() {
        let mut cache = cache();
        assert_eq!(cache.slots([3, 4, 4]), 2);
        cache.get("4-a", ()).unwrap();
        assert_eq!(cache.slots([3, 4]), 2);
        cache.get("4-b", ()).unwrap();
        assert_eq!(cache.slots([3]), 2);
        assert_eq!(cache.names().len(), 2);
    }

    #[test]
    fn other_failures_are_not_tried_again_and_drop_nothing() {
        let mut cache = cache();
        cache.get("3-a", ()).unwrap();
        let broken = draw(&mut cache, "broken5", 9);
        assert_eq!(broken, Err(Error::Load("broken5 is damaged".to_owned())));
        assert_eq!(cache.names(), ["3-a"]);
        assert_eq!(cache.loader().loads, ["3-a", "broken5"]);
    }

    #[test]
    fn a_failed_load_leaves_the_others() {
        let mut cache = cache();
        cache.get("5-a", ()).unwrap();
        assert_eq!(
            cache.get("broken5", ()),
            Err(Error::Load("broken5 is damaged".to_owned()))
        );
        assert!(matches!(cache.get("nonsense", ()), Err(Error::Load(_))));
        assert_eq!(cache.names(), ["5-a"]);
    }
}
