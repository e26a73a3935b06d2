//! Wakes the upkeep of the apps that this process leads. A leader whose app has nothing to look after polls nothing: one command
//! a second asks about all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use warmq_store::Store;
use warmq_types::ids::AppId;

use super::maintenance::Maintenance;
use super::session::{TICK_INTERVAL, ticks};

/// The apps with a session in this process.
#[derive(Clone, Default)]
pub(super) struct PendingWork(Arc<Mutex<HashMap<AppId, Weak<Maintenance>>>>);

impl PendingWork {
    /// Wakes the upkeep of a session from now on, for as long as it exists.
    pub(super) fn register(&self, app: &AppId, maintenance: &Arc<Maintenance>) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(app.clone(), Arc::downgrade(maintenance));
    }

    /// Polls Redis for as long as it is awaited.
    pub(super) async fn poll(self, store: Store) {
        let mut tick = ticks(TICK_INTERVAL);
        loop {
            tick.tick().await;
            let sessions = self.sessions();
            let apps: Vec<AppId> = sessions.keys().cloned().collect();
            let pending = match store.usage().with_pending_work(&apps).await {
                Ok(pending) => pending,
                // Each finds out for itself that Redis is away, and goes on without it.
                Err(_) => apps,
            };
            for maintenance in pending.iter().filter_map(|app| sessions.get(app)) {
                maintenance.wake();
            }
        }
    }

    /// The sessions that exist.
    fn sessions(&self) -> HashMap<AppId, Arc<Maintenance>> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, maintenance| maintenance.strong_count() > 0);
        let alive = sessions.iter();
        alive
            .filter_map(|(app, maintenance)| Some((app.clone(), maintenance.upgrade()?)))
            .collect()
    }
}
