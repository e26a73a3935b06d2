//! Loaded models within a memory budget; a miss evicts the least recently used ones first, into
//! host memory if there is a budget for that.
//!
//! Room is made for a model's exact size, after its files were checked. A model is in one tier at a
//! time; while it moves to the device it counts in neither.
//!
//! | module | contents |
//! | --- | --- |
//! | [`loader`] | what a cache needs to load models |
//! | [`eviction`] | the models to evict for another |
//! | [`shortage`] | what follows when the device is out of memory |
//! | [`slots`] | the number of models that fit at once |

pub mod eviction;
pub mod loader;
pub mod shortage;
pub mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use eviction::{CachedModel, DoesNotFit};
pub use loader::{Loaded, Loader};
use shortage::Remedy;
use warmq_types::tier::Tier;

/// The memory for models, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Of the device.
    pub device_bytes: u64,
    /// Of host memory, for evicted models; 0 drops them.
    pub ram_bytes: u64,
}

/// The model exceeds the budget of the device.
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
    /// The model exceeds the budget of the device, or what pinned models leave of it.
    TooLarge(TooLarge),
    /// The loader failed.
    Load(E),
    /// The device is out of memory although no other model is loaded, apart from pinned ones.
    ExceedsDevice(E),
}

/// The models in memory.
#[derive(Debug)]
pub struct ModelCache<L: Loader> {
    loader: L,
    budget: Budget,
    // A handful at most: a scan is faster than an index.
    device: Vec<Entry<L::Model, L::Version>>,
    ram: Vec<Entry<L::Model, L::Version>>,
    /// Names of models that stay on the device once they are loaded.
    pinned: BTreeSet<String>,
    uses: u64,
}

/// The entry of a loader's cache.
type EntryOf<L> = Entry<<L as Loader>::Model, <L as Loader>::Version>;

#[derive(Debug)]
struct Entry<M, V> {
    name: String,
    model: M,
    version: V,
    bytes: u64,
    last_used: u64,
}

impl<L: Loader> ModelCache<L> {
    /// Creates an empty cache.
    pub fn new(loader: L, budget: Budget) -> Self {
        Self {
            loader,
            budget,
            device: Vec::new(),
            ram: Vec::new(),
            pinned: BTreeSet::new(),
            uses: 0,
        }
    }

    /// Returns where `name` is.
    pub fn tier(&self, name: &str) -> Tier {
        match (position(&self.device, name), position(&self.ram, name)) {
            (Some(_), _) => Tier::Device,
            (None, Some(_)) => Tier::Ram,
            (None, None) => Tier::Disk,
        }
    }

    /// Returns whether `name` is on the device.
    pub fn contains(&self, name: &str) -> bool {
        self.tier(name) == Tier::Device
    }

    /// Returns the model `name`, loads it if needed, and marks it most recently used.
    ///
    /// # Errors
    /// See [`Error`]. After a failed load, models evicted for it stay evicted; the others stay
    /// loaded. A model in host memory stays there.
    pub fn get(
        &mut self,
        name: &str,
        context: L::Context<'_>,
    ) -> Result<&mut L::Model, Error<L::Error>> {
        let index = match position(&self.device, name) {
            Some(index) => index,
            None => {
                let entry = match position(&self.ram, name) {
                    Some(index) => self.restore(index, context)?,
                    None => self.load(name, context)?,
                };
                self.device.push(entry);
                self.device.len() - 1
            }
        };
        self.uses += 1;
        let entry = &mut self.device[index];
        entry.last_used = self.uses;
        Ok(&mut entry.model)
    }

    /// Names of the models on the device in the order of their eviction: least recently used first,
    /// pinned ones last.
    pub fn names(&self) -> Vec<&str> {
        let mut entries: Vec<_> = self.device.iter().collect();
        entries.sort_by_key(|entry| (self.pinned.contains(&entry.name), entry.last_used));
        entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    /// Names of the models in host memory, least recently used first.
    pub fn ram_names(&self) -> Vec<&str> {
        let mut entries: Vec<_> = self.ram.iter().collect();
        entries.sort_by_key(|entry| entry.last_used);
        entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    /// Names of the pinned models, loaded or not.
    pub fn pinned(&self) -> impl Iterator<Item = &str> {
        self.pinned.iter().map(String::as_str)
    }

    /// Returns the memory that the pinned models on the device, other than `name`, leave, bytes.
    pub fn room_beside_pins(&self, name: &str) -> u64 {
        let held = self.held();
        let pinned = held
            .iter()
            .filter(|model| model.pinned && model.name != name);
        let pinned_bytes: u64 = pinned.map(|model| model.bytes).sum();
        self.budget.device_bytes.saturating_sub(pinned_bytes)
    }

    /// Returns the total size of the models on the device, bytes.
    pub fn bytes(&self) -> u64 {
        total_bytes(&self.device)
    }

    /// Returns the total size of the models in host memory, bytes.
    pub fn ram_bytes(&self) -> u64 {
        total_bytes(&self.ram)
    }

    /// Returns how many models fit on the device at once: the loaded ones, and then the largest of
    /// the `others`, given by their sizes. While fewer are loaded, a load of any of the others
    /// evicts nothing.
    pub fn slots(&self, others: impl IntoIterator<Item = u64>) -> u32 {
        slots::slots(&sizes(&self.device), others, self.budget.device_bytes)
    }

    /// Returns how many models fit into host memory at once, as [`ModelCache::slots`].
    pub fn ram_slots(&self, others: impl IntoIterator<Item = u64>) -> u32 {
        slots::slots(&sizes(&self.ram), others, self.budget.ram_bytes)
    }

    /// Keeps `name` on the device from now on, once it is loaded.
    pub fn pin(&mut self, name: &str) {
        self.pinned.insert(name.to_owned());
    }

    /// Ends [`ModelCache::pin`].
    pub fn unpin(&mut self, name: &str) {
        self.pinned.remove(name);
    }

    /// Drops `name` from both tiers.
    pub fn unload(&mut self, name: &str) {
        self.device.retain(|entry| entry.name != name);
        self.ram.retain(|entry| entry.name != name);
        self.loader.release_unused_memory();
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
            let held = self.held();
            let remedy = shortage::remedy(failures, name, &held);
            tracing::warn!(model = name, reason, ?remedy, "out of memory");
            let end = match remedy {
                Remedy::ReleaseUnused => None,
                Remedy::Evict(victim) => {
                    let victim = victim.to_owned();
                    self.evict(&victim);
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

    /// Drops `name` from both tiers if its files changed since it was loaded, or no longer exist.
    pub fn drop_if_changed(&mut self, name: &str) {
        let mut entries = self.device.iter().chain(&self.ram);
        let Some(entry) = entries.find(|entry| entry.name == name) else {
            return;
        };
        if self.loader.version(name).ok().as_ref() != Some(&entry.version) {
            tracing::info!(model = name, "a model's files changed: dropping it");
            self.device.retain(|entry| entry.name != name);
            self.ram.retain(|entry| entry.name != name);
        }
    }

    /// Returns the loader.
    pub fn loader(&self) -> &L {
        &self.loader
    }

    /// Reads a model's files.
    fn load(&mut self, name: &str, context: L::Context<'_>) -> Result<EntryOf<L>, Error<L::Error>> {
        // Read before the load, so that a change during it is detected at the next job.
        let version = self.loader.version(name).map_err(Error::Load)?;
        let size = self.loader.size_bytes(name).map_err(Error::Load)?;
        self.make_room(name, size)?;
        let Loaded { model, bytes } = self.loader.load(name, context).map_err(Error::Load)?;
        // The files may have changed since their size was read. A model that alone exceeds the
        // budget is dropped here.
        self.make_room(name, bytes)?;
        Ok(Entry {
            name: name.to_owned(),
            model,
            version,
            bytes,
            last_used: self.uses,
        })
    }

    /// Moves a model from host memory to the device.
    fn restore(
        &mut self,
        index: usize,
        context: L::Context<'_>,
    ) -> Result<EntryOf<L>, Error<L::Error>> {
        // Its place is free for a model that it evicts.
        let mut entry = self.ram.remove(index);
        let moved = self.make_room(&entry.name, entry.bytes).and_then(|()| {
            let moved = self.loader.to_device(&mut entry.model, context);
            moved.map_err(Error::Load)
        });
        match moved {
            Ok(()) => Ok(entry),
            Err(error) => {
                self.stash(entry);
                Err(error)
            }
        }
    }

    fn make_room(&mut self, model: &str, bytes: u64) -> Result<(), Error<L::Error>> {
        let victims = eviction::victims(&self.held(), bytes, self.budget.device_bytes);
        let victims = owned(victims.map_err(|reason| {
            Error::TooLarge(TooLarge {
                model: model.to_owned(),
                reason,
            })
        })?);
        if !victims.is_empty() {
            tracing::info!(model, evicted = %victims.join(", "), "evicting models");
        }
        for victim in victims {
            self.evict(&victim);
        }
        Ok(())
    }

    /// Removes a model from the device, and keeps it in host memory if it fits.
    fn evict(&mut self, name: &str) {
        let Some(index) = position(&self.device, name) else {
            return;
        };
        let mut entry = self.device.remove(index);
        if entry.bytes > self.budget.ram_bytes {
            return;
        }
        // Before the copy: host memory does not exceed its budget meanwhile.
        self.make_ram_room(entry.bytes);
        match self.loader.to_ram(&mut entry.model) {
            Ok(()) => self.ram.push(entry),
            Err(_) => tracing::warn!(model = name, "an evicted model could not be kept in RAM"),
        }
    }

    /// Keeps a model that is in host memory there if it fits.
    fn stash(&mut self, entry: EntryOf<L>) {
        if entry.bytes <= self.budget.ram_bytes {
            self.make_ram_room(entry.bytes);
            self.ram.push(entry);
        }
    }

    /// Drops models from host memory until `bytes` fit, which do not exceed the budget.
    fn make_ram_room(&mut self, bytes: u64) {
        let held = cached(&self.ram, |_| false);
        if let Ok(victims) = eviction::victims(&held, bytes, self.budget.ram_bytes) {
            let victims = owned(victims);
            self.ram.retain(|entry| !victims.contains(&entry.name));
        }
    }

    fn held(&self) -> Vec<CachedModel<'_>> {
        cached(&self.device, |name| self.pinned.contains(name))
    }
}

fn position<M, V>(entries: &[Entry<M, V>], name: &str) -> Option<usize> {
    entries.iter().position(|entry| entry.name == name)
}

fn sizes<M, V>(entries: &[Entry<M, V>]) -> Vec<u64> {
    entries.iter().map(|entry| entry.bytes).collect()
}

fn total_bytes<M, V>(entries: &[Entry<M, V>]) -> u64 {
    entries.iter().map(|entry| entry.bytes).sum()
}

fn cached<M, V>(entries: &[Entry<M, V>], is_pinned: impl Fn(&str) -> bool) -> Vec<CachedModel<'_>> {
    let cached = entries.iter().map(|entry| CachedModel {
        name: &entry.name,
        bytes: entry.bytes,
        last_used: entry.last_used,
        pinned: is_pinned(&entry.name),
    });
    cached.collect()
}

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}
