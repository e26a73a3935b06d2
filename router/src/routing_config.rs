//! What `warmq.toml` declares of apps and routes: read whole, checked whole, replaced whole.

use warmq_config::{AppConfig, Apps, Settings};
use warmq_rules::Routes;
use warmq_types::ids::AppId;

/// The declarations of one file at one time.
#[derive(Debug, Default)]
pub struct RoutingConfig {
    /// The apps that it names.
    pub apps: Apps,
    /// The routes.
    pub routes: Routes,
}

impl RoutingConfig {
    /// Takes apps and routes out of the file; problems are noted in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let apps = Apps::read(settings);
        let routes = Routes::read(settings, &apps);
        Self { apps, routes }
    }

    /// The settings of an app: the file's, or the defaults.
    pub fn config(&self, app: &AppId) -> AppConfig {
        self.apps.get(app)
    }

    /// The part of the file that a submission to `name` can reach, as text that
    /// [`RoutingConfig::read`] reads again.
    pub fn excerpt(&self, name: &AppId) -> String {
        self.routes.excerpt(&self.apps, name)
    }
}
