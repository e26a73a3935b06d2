//! Declarations at the start of a flow, parsed from the excerpt in its record.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use warmq_config::{Problems, Settings};

use crate::routing_config::RoutingConfig;

/// Parsed excerpts in the cache: one per route and version of the file with running flows; others
/// are parsed again.
const MAX_CACHED: usize = 256;

/// Cache of parsed excerpts.
#[derive(Clone, Default)]
pub(super) struct Versions(Arc<Mutex<Read>>);

#[derive(Default)]
struct Read {
    /// By text, with the sequence number of their last use.
    excerpts: HashMap<String, (Arc<RoutingConfig>, u64)>,
    uses: u64,
}

impl Read {
    fn get(&mut self, excerpt: &str) -> Option<Arc<RoutingConfig>> {
        self.uses += 1;
        let (declared, used) = self.excerpts.get_mut(excerpt)?;
        *used = self.uses;
        Some(declared.clone())
    }

    /// Adds an excerpt, and evicts the least recently used one.
    fn keep(&mut self, excerpt: &str, declared: Arc<RoutingConfig>) {
        if self.excerpts.len() >= MAX_CACHED {
            let oldest = self.excerpts.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(excerpt, _)| excerpt.clone()) {
                self.excerpts.remove(&oldest);
            }
        }
        let used = self.uses;
        self.excerpts.insert(excerpt.to_owned(), (declared, used));
    }
}

impl Versions {
    /// Parses `excerpt`, or returns it from the cache.
    ///
    /// # Errors
    /// The excerpt is unreadable: another version of the router wrote it.
    pub(super) fn read(&self, excerpt: &str) -> Result<Arc<RoutingConfig>, Problems> {
        if let Some(known) = self.lock().get(excerpt) {
            return Ok(known);
        }
        let mut settings = Settings::from_toml(excerpt, "the flow's excerpt");
        let declared = RoutingConfig::read(&mut settings);
        let declared = Arc::new(settings.finish(Some(declared))?);
        self.lock().keep(excerpt, declared.clone());
        Ok(declared)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Read> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_excerpt_too_many_displaces_the_one_that_was_not_used_for_longest() {
        let mut read = Read::default();
        let declared = || {
            let mut settings = Settings::from_toml("", "nothing");
            Arc::new(RoutingConfig::read(&mut settings))
        };
        for number in 0..MAX_CACHED {
            read.keep(&number.to_string(), declared());
            assert!(read.get("0").is_some());
        }
        read.keep("new", declared());
        assert!(read.get("0").is_some() && read.get("new").is_some());
        assert!(read.get("1").is_none());
        assert_eq!(read.excerpts.len(), MAX_CACHED);
    }
}
