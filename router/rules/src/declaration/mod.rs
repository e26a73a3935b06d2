//! `[routes."owner/name"]` in `warmq.toml`: parses it, and locates every mistake.
//!
//! | module | content |
//! | --- | --- |
//! | `reader` | a route, and the kinds of values of which it consists |
//! | `choices` | `switch` and `split` |
//! | `steps` | `sequence` and `fallback`, with their templates |

mod choices;
mod reader;
mod steps;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use toml::Table;
use warmq_config::{Apps, SettingPath, Settings};
use warmq_types::ids::AppId;
use warmq_types::route::RouteKind;

use self::reader::{Item, Reader};
use crate::expression::Expression;
use crate::flow::{DeclaredFlow, Fallback, Sequence};
use crate::route_graph;
use crate::split::Split;
use crate::switch::Switch;

/// Declared routes. If the file has no mistakes, each leads to apps of the file through at most
/// [`crate::MAX_HOPS`] routes.
#[derive(Debug, Default)]
pub struct Routes {
    routes: BTreeMap<AppId, Declared>,
    /// Apps of the file.
    apps: BTreeSet<AppId>,
}

/// A route of the file.
#[derive(Debug)]
struct Declared {
    route: Route,
    /// Its table in the file.
    written: Table,
}

/// One declared route.
#[derive(Debug, PartialEq)]
pub enum Route {
    /// Chooses a target by conditions.
    Switch(Switch),
    /// Chooses a target by shares.
    Split(Split),
    /// Runs steps, each with the outputs of those before.
    Sequence(Sequence),
    /// Tries targets until one succeeds.
    Fallback(Fallback),
}

impl Route {
    /// Returns its kind.
    pub fn kind(&self) -> RouteKind {
        match self {
            Self::Switch(_) => RouteKind::Switch,
            Self::Split(_) => RouteKind::Split,
            Self::Sequence(_) => RouteKind::Sequence,
            Self::Fallback(_) => RouteKind::Fallback,
        }
    }

    /// Returns the apps and routes that it can choose.
    pub fn choices(&self) -> BTreeSet<&AppId> {
        match self {
            Self::Switch(switch) => {
                let rules = switch.rules.iter().map(|rule| &rule.to);
                rules.chain([&switch.default]).collect()
            }
            Self::Split(split) => split.to.iter().map(|share| &share.app).collect(),
            Self::Sequence(Sequence { steps, .. }) | Self::Fallback(Fallback { to: steps }) => {
                steps.iter().map(|step| &step.app).collect()
            }
        }
    }

    /// Returns its steps, if its submissions become flows.
    pub fn flow(&self) -> Option<DeclaredFlow<'_>> {
        let (steps, output) = match self {
            Self::Switch(_) | Self::Split(_) => return None,
            Self::Sequence(sequence) => (&sequence.steps, sequence.output.as_ref()),
            Self::Fallback(fallback) => (&fallback.to, None),
        };
        Some(DeclaredFlow {
            kind: self.kind(),
            steps,
            output,
        })
    }

    /// Returns its conditions, or its key.
    pub(crate) fn conditions(&self) -> Vec<&Expression> {
        match self {
            Self::Switch(switch) => switch.rules.iter().map(|rule| &rule.when).collect(),
            Self::Split(split) => split.by.iter().collect(),
            Self::Sequence(_) | Self::Fallback(_) => Vec::new(),
        }
    }
}

impl Routes {
    /// Parses `[routes]`; problems are added to `settings`. `apps`: those of the same file.
    pub fn read(settings: &mut Settings, apps: &Apps) -> Self {
        let (mut routes, mut mentions) = (BTreeMap::new(), BTreeMap::new());
        let apps: BTreeSet<AppId> = apps.names().cloned().collect();
        let all = SettingPath::of("routes");
        for (name, value) in settings.table("routes").unwrap_or_default() {
            let path = all.key(&name);
            let id = AppId::parse(&name)
                .map_err(|error| settings.problem_at(&path, error))
                .ok();
            let mut reader = Reader {
                settings,
                apps: &apps,
                name: id.as_ref(),
                mentions: Vec::new(),
            };
            let declared = reader.table(Item { path, value }).and_then(|fields| {
                let written = fields.table.clone();
                let route = reader.route(fields)?;
                Some(Declared { route, written })
            });
            let mentioned = reader.mentions;
            if let Some(id) = id {
                // A route with mistakes is a known target, so that all mistakes are reported at
                // once.
                mentions.insert(id.clone(), mentioned);
                routes.extend(declared.map(|declared| (id, declared)));
            }
        }
        for (path, mistake) in route_graph::mistakes(&mentions, &apps) {
            settings.problem_at(&path, mistake);
        }
        Self { routes, apps }
    }

    /// Returns a route; `None` if the name is an app's, or unknown.
    pub fn get(&self, name: &AppId) -> Option<&Route> {
        self.routes.get(name).map(|declared| &declared.route)
    }

    /// Returns the steps of a route whose submissions become flows; `None` for other names.
    pub fn flow(&self, name: &AppId) -> Option<DeclaredFlow<'_>> {
        self.get(name)?.flow()
    }

    /// Returns all routes, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&AppId, &Route)> {
        let routes = self.routes.iter();
        routes.map(|(name, declared)| (name, &declared.route))
    }

    /// Returns their number.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Returns a route's table in the file.
    pub(crate) fn written(&self, name: &AppId) -> Option<&Table> {
        self.routes.get(name).map(|declared| &declared.written)
    }

    /// Returns the apps of the file.
    pub(crate) fn apps(&self) -> impl Iterator<Item = &AppId> {
        self.apps.iter()
    }
}
