//! Wakes the maintenance of the apps that this process leads, so that idle leaders poll nothing:
//! one command a second covers all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use warmq_store::Store;
use warmq_types::ids::AppId;

use super::loop_reports::LoopReports;
use super::session::{TICK_INTERVAL, ticks};

#[derive(Clone, Default)]
pub(super) struct PendingWork(Arc<Mutex<HashMap<AppId, Weak<LoopReports>>>>);

impl PendingWork {
    /// Wakes the maintenance of this session until it is dropped.
    pub(super) fn register(&self, app: &AppId, reports: &Arc<LoopReports>) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(app.clone(), Arc::downgrade(reports));
    }

    /// Polls Redis every second.
    pub(super) async fn poll(self, store: Store) {
        let mut tick = ticks(TICK_INTERVAL);
        loop {
            tick.tick().await;
            let sessions = self.sessions();
            let apps: Vec<AppId> = sessions.keys().cloned().collect();
            let pending = match store.apps_in_use().with_pending_work(&apps).await {
                Ok(pending) => pending,
                // Redis is unreachable: each session detects that itself and continues without it.
                Err(_) => apps,
            };
            for reports in pending.iter().filter_map(|app| sessions.get(app)) {
                reports.wake();
            }
        }
    }

    /// Returns the live sessions.
    fn sessions(&self) -> HashMap<AppId, Arc<LoopReports>> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, reports| reports.strong_count() > 0);
        let alive = sessions.iter();
        alive
            .filter_map(|(app, reports)| Some((app.clone(), reports.upgrade()?)))
            .collect()
    }
}
