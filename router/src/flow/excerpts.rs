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
pub(super) struct Excerpts(Arc<Mutex<Cache>>);

#[derive(Default)]
struct Cache {
    /// By text, with the sequence number of their last use.
    excerpts: HashMap<String, (Arc<RoutingConfig>, u64)>,
    uses: u64,
}

impl Cache {
    fn get(&mut self, excerpt: &str) -> Option<Arc<RoutingConfig>> {
        self.uses += 1;
        let (routing, used) = self.excerpts.get_mut(excerpt)?;
        *used = self.uses;
        Some(routing.clone())
    }

    /// Adds an excerpt, and evicts the least recently used one.
    fn keep(&mut self, excerpt: &str, routing: Arc<RoutingConfig>) {
        if self.excerpts.len() >= MAX_CACHED {
            let oldest = self.excerpts.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(excerpt, _)| excerpt.clone()) {
                self.excerpts.remove(&oldest);
            }
        }
        let used = self.uses;
        self.excerpts.insert(excerpt.to_owned(), (routing, used));
    }
}

impl Excerpts {
    /// Parses `excerpt`, or returns it from the cache.
    ///
    /// # Errors
    /// The excerpt is unreadable: another version of the router wrote it.
    pub(super) fn read(&self, excerpt: &str) -> Result<Arc<RoutingConfig>, Problems> {
        if let Some(known) = self.lock().get(excerpt) {
            return Ok(known);
        }
        let mut settings = Settings::from_toml(excerpt, "the flow's excerpt");
        let routing = RoutingConfig::read(&mut settings);
        let routing = Arc::new(settings.finish(Some(routing))?);
        self.lock().keep(excerpt, routing.clone());
        Ok(routing)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_cache_evicts_the_least_recently_used_excerpt() {
        let mut cache = Cache::default();
        let routing = || {
            let mut settings = Settings::from_toml("", "nothing");
            Arc::new(RoutingConfig::read(&mut settings))
        };
        for number in 0..MAX_CACHED {
            cache.keep(&number.to_string(), routing());
            assert!(cache.get("0").is_some());
        }
        cache.keep("new", routing());
        assert!(cache.get("0").is_some() && cache.get("new").is_some());
        assert!(cache.get("1").is_none());
        assert_eq!(cache.excerpts.len(), MAX_CACHED);
    }
}
