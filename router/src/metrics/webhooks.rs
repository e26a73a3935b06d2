//! Webhooks, as the router counts them that tells them.

use metrics::{Key, Label, Recorder};
use warmq_types::ids::AppId;

use super::Metrics;
use super::app::METADATA;
use super::names::WEBHOOKS;

impl Metrics {
    /// A webhook of the app's job was told, or not. `outcome`: `delivered`, `retried` or
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
