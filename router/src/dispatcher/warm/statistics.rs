//! The policy's statistics, saved in Redis for the next leader.

use std::collections::BTreeSet;

use warmq_policy::warm::{Event, Model, Warm};
use warmq_store::Store;
use warmq_types::ids::AppId;

use super::hints::Hints;
use crate::session_error::SessionError;

pub(super) struct Statistics<'a> {
    app: &'a AppId,
    store: &'a Store,
    /// Models with unsaved statistics; `None` stands for the app.
    unsaved: BTreeSet<Option<Model>>,
}

impl<'a> Statistics<'a> {
    pub(super) fn new(app: &'a AppId, store: &'a Store) -> Self {
        Self {
            app,
            store,
            unsaved: BTreeSet::new(),
        }
    }

    /// Restores the statistics of earlier leaders, and the models that runners listed.
    pub(super) async fn restore(
        &self,
        policy: &mut Warm,
        hints: &mut Hints,
    ) -> Result<(), SessionError> {
        for (hint, json) in self.store.stats().read(self.app).await? {
            match serde_json::from_str(&json) {
                Ok(statistics) => policy.restore(hint.map(|hint| hints.number(&hint)), statistics),
                Err(error) => tracing::debug!(%error, "skipped statistics of another version"),
            }
        }
        for hint in self.store.published().models(self.app).await? {
            policy.add_known_model(hints.number(&hint));
        }
        Ok(())
    }

    /// Records which statistics an event changes.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Arrived(arrival) => self.unsaved.extend(arrival.model.map(Some)),
            Event::Freed(freed) => {
                if let Some(ran) = freed.ran {
                    self.unsaved.extend([Some(ran.model), None]);
                }
            }
            _ => {}
        }
    }

    /// Saves the changed statistics, and forgets unused models.
    pub(super) async fn save(
        &mut self,
        policy: &mut Warm,
        hints: &mut Hints,
        now_s: f64,
    ) -> Result<(), SessionError> {
        let forgotten = hints.sweep(|model| policy.forget(model, now_s));
        let mut fields = Vec::new();
        for model in std::mem::take(&mut self.unsaved) {
            let hint = match model {
                Some(model) => match hints.name(model) {
                    Some(hint) => Some(hint.clone()),
                    None => continue,
                },
                None => None,
            };
            // Encoding cannot fail: string keys, finite numbers.
            let json = serde_json::to_string(&policy.statistics(model)).unwrap_or_default();
            fields.push((hint, json));
        }
        if !fields.is_empty() || !forgotten.is_empty() {
            let stats = self.store.stats();
            stats.save(self.app, &fields, &forgotten).await?;
        }
        Ok(())
    }
}
