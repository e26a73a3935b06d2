//! Mistakes across routes: unknown and ambiguous names, cycles, too many hops.

use std::collections::{BTreeMap, BTreeSet};

use warmq_config::SettingPath;
use warmq_types::ids::AppId;

/// Maximum number of routes that a submission passes.
pub const MAX_HOPS: usize = 8;

/// A target in a declaration, with its location.
pub(crate) type Mention = (SettingPath, AppId);

/// Returns the mistakes of `routes`, given the `apps` of the file, with their locations.
pub(crate) fn mistakes(
    routes: &BTreeMap<AppId, Vec<Mention>>,
    apps: &BTreeSet<AppId>,
) -> Vec<(SettingPath, String)> {
    let mut check = Check {
        routes,
        apps,
        longest: BTreeMap::new(),
        mistakes: Vec::new(),
    };
    for name in routes.keys() {
        let path = SettingPath::of("routes").key(name.as_str());
        if apps.contains(name) {
            let twice = "an app of this file has the same name";
            check.mistakes.push((path.clone(), twice.to_owned()));
        }
        let way = check.longest_path(name, &mut Vec::new());
        if way.len() > MAX_HOPS {
            let problem = format!(
                "it passes through {} routes, more than the limit of {MAX_HOPS}: {}",
                way.len(),
                format_path(way.into_iter().rev())
            );
            check.mistakes.push((path, problem));
        }
    }
    check.mistakes
}

struct Check<'a> {
    routes: &'a BTreeMap<AppId, Vec<Mention>>,
    apps: &'a BTreeSet<AppId>,
    /// Longest path from each visited route, the last hop first.
    longest: BTreeMap<&'a AppId, Vec<&'a AppId>>,
    mistakes: Vec<(SettingPath, String)>,
}

impl<'a> Check<'a> {
    /// Returns the longest path from a route, the last hop first; empty for an app. `behind`: the
    /// routes passed before.
    fn longest_path(&mut self, name: &'a AppId, behind: &mut Vec<&'a AppId>) -> Vec<&'a AppId> {
        let Some(mentions) = self.routes.get(name) else {
            return Vec::new();
        };
        if let Some(known) = self.longest.get(name) {
            return known.clone();
        }
        behind.push(name);
        let mut longest = Vec::new();
        for (path, to) in mentions {
            if let Some(start) = behind.iter().position(|passed| *passed == to) {
                let cycle = behind[start..].iter().copied().chain([to]);
                let problem = format!("part of a cycle: {}", format_path(cycle));
                self.mistakes.push((path.clone(), problem));
            } else if self.routes.contains_key(to) {
                let way = self.longest_path(to, behind);
                if way.len() > longest.len() {
                    longest = way;
                }
            } else if !self.apps.contains(to) {
                let problem = format!(
                    "'{to}' is not declared in this file: declare the app by [apps.\"{to}\"]"
                );
                self.mistakes.push((path.clone(), problem));
            }
        }
        behind.pop();
        longest.push(name);
        self.longest.insert(name, longest.clone());
        longest
    }
}

/// `a/b → a/c`
fn format_path<'a>(names: impl Iterator<Item = &'a AppId>) -> String {
    let names: Vec<&str> = names.map(AppId::as_str).collect();
    names.join(" → ")
}
