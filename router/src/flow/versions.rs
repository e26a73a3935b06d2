//! What was declared when a flow began, read from the excerpt of the file that its record carries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use warmq_common::config::{Problems, Settings};

use crate::declared::Declared;

/// How many excerpts are kept read. Each route has one per version of the file with flows under way; beyond, they are read again.
const MOST: usize = 256;

/// The excerpts that were read, by their text.
#[derive(Clone, Default)]
pub(super) struct Versions(Arc<Mutex<HashMap<String, Arc<Declared>>>>);

impl Versions {
    /// What `excerpt` declares.
    ///
    /// # Errors
    /// It can not be read: another version of the router wrote it.
    pub(super) fn read(&self, excerpt: &str) -> Result<Arc<Declared>, Problems> {
        if let Some(known) = self.lock().get(excerpt) {
            return Ok(known.clone());
        }
        let mut settings = Settings::from_toml(excerpt, "the flow's excerpt");
        let declared = Declared::read(&mut settings);
        let declared = Arc::new(settings.finish(Some(declared))?);
        let mut known = self.lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(excerpt.to_owned(), declared.clone());
        Ok(declared)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Declared>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
