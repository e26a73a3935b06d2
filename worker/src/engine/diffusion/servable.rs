//! The models that can be served, determined without loading any.
//!
//! A model that failed leaves the catalog for a while, unless its files change: the runner serves
//! the others meanwhile, and a damaged model evicts no sound one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use warmq_diffusion::{Error, Stamp};
use warmq_types::fault::FaultKind;

use super::models::Models;
use crate::fault::Fault;
use crate::model_cache::eviction::DoesNotFit;
use crate::model_cache::{Loader, TooLarge};

/// Interval between retries of a model that failed.
const REFUSED_MODEL_RETRY_INTERVAL: Duration = Duration::from_secs(20);

/// Time for which a removed model is reported as missing; afterwards its name is unknown.
const MISSING_MODEL_TTL: Duration = Duration::from_secs(600);

/// The models that are or were in the catalog folder.
#[derive(Debug, Default)]
pub(super) struct ServableModels {
    known: BTreeMap<String, ModelState>,
}

#[derive(Debug)]
struct ModelState {
    /// Stamp of the files that were checked; `None` while they are missing.
    stamp: Option<Stamp>,
    refused: Option<Refusal>,
}

#[derive(Debug)]
struct Refusal {
    fault: Fault,
    since: Instant,
}

impl ServableModels {
    /// Checks models that are new, changed, or due for a retry.
    pub(super) fn refresh(&mut self, models: &Models, budget_bytes: u64) {
        let catalog = &models.catalog;
        let mut names = catalog.names();
        names.extend(self.known.keys().cloned());
        names.sort();
        names.dedup();
        for name in names {
            let stamp = catalog.stamp(&name).ok();
            let is_missed = |known: &ModelState| {
                (known.refused.as_ref())
                    .is_none_or(|refused| refused.since.elapsed() < MISSING_MODEL_TTL)
            };
            if stamp.is_none() && !self.known.get(&name).is_some_and(is_missed) {
                self.known.remove(&name);
            } else if !self.is_checked(&name, stamp.as_ref()) {
                let fault = match &stamp {
                    Some(_) => examine(models, budget_bytes, &name).err(),
                    None => Some(missing(&name)),
                };
                self.note(&name, stamp, fault);
            }
        }
    }

    /// Returns the catalog, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let offered = (self.known.iter()).filter(|(_, known)| known.refused.is_none());
        offered.map(|(name, _)| name.clone()).collect()
    }

    /// Returns why the other models cannot be served, sorted by name.
    pub(super) fn refusals(&self) -> impl Iterator<Item = &Fault> {
        let refused = self
            .known
            .values()
            .filter_map(|known| known.refused.as_ref());
        refused.map(|refused| &refused.fault)
    }

    /// Returns why a model with these files is not tried now.
    pub(super) fn refusal(&self, name: &str, stamp: &Stamp) -> Option<&Fault> {
        let known = self.known.get(name)?;
        let refused = known.refused.as_ref()?;
        let holds = known.stamp.as_ref() == Some(stamp)
            && refused.since.elapsed() < REFUSED_MODEL_RETRY_INTERVAL;
        holds.then_some(&refused.fault)
    }

    /// Returns the fault of a model that was removed; `None` if it never existed.
    pub(super) fn missing(&self, name: &str) -> Option<Fault> {
        self.known.contains_key(name).then(|| missing(name))
    }

    /// Records that a model failed although its check passed.
    pub(super) fn refuse(&mut self, name: &str, stamp: Stamp, fault: Fault) {
        self.note(name, Some(stamp), Some(fault));
    }

    fn is_checked(&self, name: &str, stamp: Option<&Stamp>) -> bool {
        self.known.get(name).is_some_and(|known| {
            let is_due = |refused: &Refusal| {
                stamp.is_some() && refused.since.elapsed() >= REFUSED_MODEL_RETRY_INTERVAL
            };
            known.stamp.as_ref() == stamp && !known.refused.as_ref().is_some_and(is_due)
        })
    }

    fn note(&mut self, name: &str, stamp: Option<Stamp>, fault: Option<Fault>) {
        let was_refused = (self.known.get(name)).is_some_and(|known| known.refused.is_some());
        match &fault {
            Some(fault) => {
                tracing::warn!(model = name, reason = %fault, "model removed from the catalog")
            }
            None if was_refused => tracing::info!(model = name, "model back in the catalog"),
            None => {}
        }
        let since = Instant::now();
        let refused = fault.map(|fault| Refusal { fault, since });
        self.known
            .insert(name.to_owned(), ModelState { stamp, refused });
    }
}

/// Checks whether the model would load, as far as its files show.
fn examine(models: &Models, budget_bytes: u64, name: &str) -> Result<(), Fault> {
    let needed_bytes = models.size_bytes(name).map_err(fault)?;
    if needed_bytes > budget_bytes {
        let reason = DoesNotFit {
            needed_bytes,
            budget_bytes,
            pinned_bytes: 0,
        };
        let refused = TooLarge {
            model: name.to_owned(),
            reason,
        };
        return Err(Fault::new(FaultKind::Budget, refused.to_string()));
    }
    Ok(())
}

fn missing(name: &str) -> Fault {
    let message = format!("the folder of model '{name}' is missing on this runner");
    Fault::new(FaultKind::Model, message)
}

/// Maps an error that is not the job's to a fault.
pub(super) fn fault(error: Error) -> Fault {
    let kind = match &error {
        Error::OutOfMemory { .. } => FaultKind::Memory,
        Error::DeviceLost { .. } | Error::NoDevice { .. } => FaultKind::Device,
        Error::BadCheckpoint { .. } | Error::NotFinite | Error::UnknownModel { .. } => {
            FaultKind::Model
        }
        Error::Catalog { .. } => {
            let fault = Fault::new(FaultKind::Model, "the models folder cannot be read");
            return fault.because(with_cause(&error));
        }
        _ => FaultKind::Engine,
    };
    match error.details() {
        Some(details) => Fault::new(kind, error.to_string()).because(details),
        None => Fault::new(kind, with_cause(&error)),
    }
}

fn with_cause(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
