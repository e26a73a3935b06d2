//! Counters of webhook deliveries, kept by the delivering router.

use metrics::{Key, Label, Recorder};
use warmq_types::ids::AppId;

use super::Metrics;
use super::app::METADATA;
use super::names::WEBHOOKS;

impl Metrics {
    /// Counts a delivery attempt for a job of the app. `outcome`: `delivered`, `retried` or
    /// `given_up`.
    pub fn webhook(&self, app: &AppId, outcome: &'static str) {
        let labels = vec![
            Label::new("app", app.to_string()),
            Label::from_static_parts("outcome", outcome),
        ];
        let key = Key::from_parts(WEBHOOKS.name, labels);
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }
}
