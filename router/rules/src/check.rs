//! Mistakes of the routes together: names that lead nowhere, or to two things; cycles; too many
//! hops.

use std::collections::{BTreeMap, BTreeSet};

use warmq_config::SettingPath;
use warmq_types::ids::AppId;

/// The most routes that a submission may go through.
pub const MAX_HOPS: usize = 8;

/// A target that a declaration names, and where.
pub(crate) type Mention = (SettingPath, AppId);

/// Everything wrong with `routes` beside each other and the `apps` of the file: where, and what.
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
            let twice = "an app of this file has the same name, and could not be submitted to";
            check.mistakes.push((path.clone(), twice.to_owned()));
        }
        let way = check.longest_way(name, &mut Vec::new());
        if way.len() > MAX_HOPS {
            let sentence = format!(
                "it leads through {} routes, {MAX_HOPS} are the most: {}",
                way.len(),
                told(way.into_iter().rev())
            );
            check.mistakes.push((path, sentence));
        }
    }
    check.mistakes
}

struct Check<'a> {
    routes: &'a BTreeMap<AppId, Vec<Mention>>,
    apps: &'a BTreeSet<AppId>,
    /// The longest way from each route that was looked at, its last hop first.
    longest: BTreeMap<&'a AppId, Vec<&'a AppId>>,
    mistakes: Vec<(SettingPath, String)>,
}

impl<'a> Check<'a> {
    /// The longest way from a route, its last hop first; empty from an app. `behind`: the routes
    /// that led here.
    fn longest_way(&mut self, name: &'a AppId, behind: &mut Vec<&'a AppId>) -> Vec<&'a AppId> {
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
                let sentence = format!("it leads back to where it came from: {}", told(cycle));
                self.mistakes.push((path.clone(), sentence));
            } else if self.routes.contains_key(to) {
                let way = self.longest_way(to, behind);
                if way.len() > longest.len() {
                    longest = way;
                }
            } else if !self.apps.contains(to) {
                let sentence = format!(
                    "no app or route of this file is named '{to}'; an app needs no settings, [apps.\"{to}\"] is enough"
                );
                self.mistakes.push((path.clone(), sentence));
            }
        }
        behind.pop();
        longest.push(name);
        self.longest.insert(name, longest.clone());
        longest
    }
}

/// `a/b → a/c`
fn told<'a>(names: impl Iterator<Item = &'a AppId>) -> String {
    let names: Vec<&str> = names.map(AppId::as_str).collect();
    names.join(" → ")
}
