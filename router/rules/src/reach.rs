//! What can be reached from a name, and the part of the file that says it: a flow carries that part
//! along, and so ends as it began whatever the file says by then.

use std::collections::BTreeSet;

use toml::{Table, Value};
use warmq_config::Apps;
use warmq_types::ids::AppId;

use crate::declaration::{Route, Routes};
use crate::expression::AppsSeen;

impl Routes {
    /// All routes and apps that a submission to `name` can reach, `name` itself included.
    pub fn reachable<'a>(&'a self, name: &'a AppId) -> BTreeSet<&'a AppId> {
        self.spread(name, |_| true)
    }

    /// The apps that conditions may look at on the way of a submission to `name`, up to where it is
    /// an app's or a flow's.
    pub fn apps_looked_at(&self, name: &AppId) -> BTreeSet<&AppId> {
        let on_the_way = self.spread(name, |route| route.flow().is_none());
        self.seen_by(on_the_way.into_iter())
    }

    /// The part of the file that a submission to `name` depends on, as TOML. It is read like the
    /// whole file, and says the same of all that is reachable from `name`. `apps`: those of the
    /// same file.
    pub fn excerpt(&self, apps: &Apps, name: &AppId) -> String {
        let reachable = self.reachable(name);
        // Conditions must find the apps that they name.
        let seen = self.seen_by(reachable.iter().copied());
        let (mut all_apps, mut all_routes) = (Table::new(), Table::new());
        for name in reachable.union(&seen) {
            let key = name.to_string();
            match self.written(name) {
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

    /// `name` and what can be reached from it through routes that `goes_on` lets through.
    fn spread<'a>(&'a self, name: &'a AppId, goes_on: fn(&Route) -> bool) -> BTreeSet<&'a AppId> {
        let mut reached = BTreeSet::new();
        let mut next = vec![name];
        while let Some(name) = next.pop() {
            if reached.insert(name)
                && let Some(route) = self.get(name).filter(|route| goes_on(route))
            {
                next.extend(route.choices());
            }
        }
        reached
    }

    fn seen_by<'n>(&self, names: impl Iterator<Item = &'n AppId>) -> BTreeSet<&AppId> {
        let conditions = names
            .filter_map(|name| self.get(name))
            .flat_map(Route::conditions);
        conditions
            .flat_map(|condition| match &condition.apps {
                AppsSeen::These(apps) => apps.iter().collect::<Vec<_>>(),
                AppsSeen::All => self.apps().collect(),
            })
            .collect()
    }
}
