//! Apps and routes of `warmq.toml`: parsed, checked and replaced as a whole.

use warmq_config::{AppConfig, Apps, Settings};
use warmq_rules::Routes;
use warmq_types::ids::AppId;

/// Declarations of one version of the file.
#[derive(Debug, Default)]
pub struct RoutingConfig {
    /// Declared apps.
    pub apps: Apps,
    /// Declared routes.
    pub routes: Routes,
}

impl RoutingConfig {
    /// Parses apps and routes; problems are added to `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let apps = Apps::read(settings);
        let routes = Routes::read(settings, &apps);
        Self { apps, routes }
    }

    /// Returns an app's settings: the file's, or the defaults.
    pub fn config(&self, app: &AppId) -> AppConfig {
        self.apps.get(app)
    }

    /// Returns the part of the file reachable from `name`, as text for [`RoutingConfig::read`].
    pub fn excerpt(&self, name: &AppId) -> String {
        warmq_rules::excerpt(&self.routes, &self.apps, name)
    }
}
