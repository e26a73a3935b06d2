//! Wakes the upkeep of the apps that this process leads. A leader whose app has nothing to look after polls nothing: one command
//! a second asks about all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use warmq_store::Store;
use warmq_types::ids::AppId;

use super::session::{LOOK, ticks};
use super::upkeep::Upkeep;

/// The apps with a session in this process.
#[derive(Clone, Default)]
pub(super) struct PendingWork(Arc<Mutex<HashMap<AppId, Weak<Upkeep>>>>);

impl PendingWork {
    /// Wakes the upkeep of a session from now on, for as long as it exists.
    pub(super) fn watch_for(&self, app: &AppId, upkeep: &Arc<Upkeep>) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(app.clone(), Arc::downgrade(upkeep));
    }

    /// Polls Redis for as long as it is awaited.
    pub(super) async fn poll(self, store: Store) {
        let mut looks = ticks(LOOK);
        loop {
            looks.tick().await;
            let sessions = self.sessions();
            let apps: Vec<AppId> = sessions.keys().cloned().collect();
            let pending = match store.with_pending_work(&apps).await {
                Ok(pending) => pending,
                // Each finds out for itself that Redis is away, and goes on without it.
                Err(_) => apps,
            };
            for upkeep in pending.iter().filter_map(|app| sessions.get(app)) {
                upkeep.stir();
            }
        }
    }

    /// The sessions that exist.
    fn sessions(&self) -> HashMap<AppId, Arc<Upkeep>> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, upkeep| upkeep.strong_count() > 0);
        let alive = sessions.iter();
        alive
            .filter_map(|(app, upkeep)| Some((app.clone(), upkeep.upgrade()?)))
            .collect()
    }
}
