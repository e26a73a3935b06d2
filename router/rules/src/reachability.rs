//! What is reachable from a name, and the part of the file that declares it. A flow stores that
//! part, so that it ends by the declarations it began with.

use std::collections::BTreeSet;

use toml::{Table, Value};
use warmq_config::Apps;
use warmq_types::ids::AppId;

use crate::declaration::{Route, Routes};
use crate::expression::AppsRead;

/// Returns all routes and apps that a submission to `name` can reach, including `name`.
pub fn reachable<'a>(routes: &'a Routes, name: &'a AppId) -> BTreeSet<&'a AppId> {
    targets(routes, name, |_| true)
}

/// Returns the apps that conditions may read while the target of a submission to `name` is
/// resolved.
pub fn apps_in_conditions<'a>(routes: &'a Routes, name: &'a AppId) -> BTreeSet<&'a AppId> {
    let on_the_way = targets(routes, name, |route| route.flow().is_none());
    apps_read(routes, on_the_way.into_iter())
}

/// Returns the part of the file that a submission to `name` depends on, as TOML. It is parsed
/// like the whole file, and declares all that is reachable from `name` alike. `apps`: those of
/// the same file.
pub fn excerpt(routes: &Routes, apps: &Apps, name: &AppId) -> String {
    let reachable = reachable(routes, name);
    // A condition that reads an unknown app is invalid.
    let seen = apps_read(routes, reachable.iter().copied());
    let (mut all_apps, mut all_routes) = (Table::new(), Table::new());
    for name in reachable.union(&seen) {
        let key = name.to_string();
        match routes.written(name) {
            Some(route) => all_routes.insert(key, Value::Table(route.clone())),
            None => {
                let app = apps.source_table(name).cloned().unwrap_or_default();
                all_apps.insert(key, Value::Table(app))
            }
        };
    }
    let tables = [("apps", all_apps), ("routes", all_routes)];
    let tables = tables.map(|(name, table)| (name.to_owned(), Value::Table(table)));
    Table::from_iter(tables).to_string()
}

/// Returns `name` and what is reachable from it through routes that satisfy `passes`.
fn targets<'a>(
    routes: &'a Routes,
    name: &'a AppId,
    passes: fn(&Route) -> bool,
) -> BTreeSet<&'a AppId> {
    let mut reached = BTreeSet::new();
    let mut next = vec![name];
    while let Some(name) = next.pop() {
        if reached.insert(name)
            && let Some(route) = routes.get(name).filter(|route| passes(route))
        {
            next.extend(route.choices());
        }
    }
    reached
}

fn apps_read<'a>(
    routes: &'a Routes,
    names: impl Iterator<Item = &'a AppId>,
) -> BTreeSet<&'a AppId> {
    let conditions = names
        .filter_map(|name| routes.get(name))
        .flat_map(Route::conditions);
    conditions
        .flat_map(|condition| match &condition.apps {
            AppsRead::Named(apps) => apps.iter().collect::<Vec<_>>(),
            AppsRead::All => routes.apps().collect(),
        })
        .collect()
}
