//! `[routes."owner/name"]` in `warmq.toml`: read, and every mistake told with its line and column.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};
use warmq_common::config::{Apps, SettingPath, Settings};
use warmq_common::ids::AppId;
use warmq_common::route::RouteKind;

use crate::check::{self, Mention};
use crate::expression::Expression;
use crate::split::{Share, Split};
use crate::switch::{Rule, Switch};

/// The largest weight: beside it, a weight of 1 is still a share.
const LARGEST_WEIGHT: f64 = 1e9;

/// The kinds, for messages.
const KINDS: &str = "known: switch, split";

/// The declared routes. Those of a file without mistakes lead to apps of that file, each through at most [`crate::MOST_HOPS`].
#[derive(Debug, Default)]
pub struct Routes(BTreeMap<AppId, Route>);

/// One declared route.
#[derive(Debug)]
pub enum Route {
    /// Chooses by conditions.
    Switch(Switch),
    /// Chooses by shares.
    Split(Split),
}

impl Route {
    /// How it chooses.
    pub fn kind(&self) -> RouteKind {
        match self {
            Self::Switch(_) => RouteKind::Switch,
            Self::Split(_) => RouteKind::Split,
        }
    }

    /// The apps and routes that it may choose, each once.
    pub fn choices(&self) -> BTreeSet<&AppId> {
        match self {
            Self::Switch(switch) => {
                let rules = switch.rules.iter().map(|rule| &rule.to);
                rules.chain([&switch.default]).collect()
            }
            Self::Split(split) => split.to.iter().map(|share| &share.app).collect(),
        }
    }
}

impl Routes {
    /// Reads `[routes]`; problems are noted in `settings`. `apps`: those of the same file.
    pub fn read(settings: &mut Settings, apps: &Apps) -> Self {
        let (mut routes, mut mentions) = (BTreeMap::new(), BTreeMap::new());
        let all = SettingPath::of("routes");
        for (name, declared) in settings.table("routes").unwrap_or_default() {
            let path = all.key(&name);
            let id = AppId::parse(&name)
                .map_err(|error| settings.problem_at(&path, error))
                .ok();
            let mut reader = Reader {
                settings,
                mentions: Vec::new(),
            };
            let route = reader
                .table(&path, declared)
                .and_then(|table| reader.route(&path, table));
            if let Some(id) = id {
                // A route that could not be read leads somewhere all the same: everything is told at once.
                mentions.insert(id.clone(), reader.mentions);
                routes.extend(route.map(|route| (id, route)));
            }
        }
        let apps = apps.names().cloned().collect();
        for (path, mistake) in check::mistakes(&mentions, &apps) {
            settings.problem_at(&path, mistake);
        }
        Self(routes)
    }

    /// A route; none if the name is an app's, or unknown.
    pub fn get(&self, name: &AppId) -> Option<&Route> {
        self.0.get(name)
    }

    /// All routes, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&AppId, &Route)> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads one route. What is wrong is noted, and the rest is read all the same.
struct Reader<'s> {
    settings: &'s mut Settings,
    /// The targets that it names.
    mentions: Vec<Mention>,
}

impl Reader<'_> {
    fn route(&mut self, path: &SettingPath, mut table: Table) -> Option<Route> {
        let kind = self.required(path, &mut table, "kind", KINDS)?;
        let at = path.key("kind");
        match self.text(&at, kind)?.as_str() {
            "switch" => self.switch(path, table).map(Route::Switch),
            "split" => self.split(path, table).map(Route::Split),
            "sequence" | "fallback" => {
                self.note(&at, format!("this kind is not built yet; {KINDS}"));
                None
            }
            other => {
                self.note(&at, format!("unknown kind '{other}'; {KINDS}"));
                None
            }
        }
    }

    fn switch(&mut self, path: &SettingPath, mut table: Table) -> Option<Switch> {
        let what = "a list of rules, { when = \"…\", to = \"owner/name\" }";
        let rules = self.list(path, &mut table, "rules", what, Self::rule);
        let default = self
            .required(
                path,
                &mut table,
                "default",
                "where to go if no rule applies",
            )
            .and_then(|default| self.target(&path.key("default"), default));
        self.nothing_else(path, table);
        Some(Switch {
            rules: rules?,
            default: default?,
        })
    }

    fn rule(&mut self, path: &SettingPath, mut table: Table) -> Option<Rule> {
        let when = self
            .required(path, &mut table, "when", "a condition in CEL")
            .and_then(|when| self.expression(&path.key("when"), when));
        let to = self
            .required(path, &mut table, "to", "an app or a route")
            .and_then(|to| self.target(&path.key("to"), to));
        self.nothing_else(path, table);
        Some(Rule {
            when: when?,
            to: to?,
        })
    }

    fn split(&mut self, path: &SettingPath, mut table: Table) -> Option<Split> {
        let what = "a list of targets, { app = \"owner/name\", weight = 80 }";
        let shares = self.list(path, &mut table, "to", what, Self::share);
        let by = (table.remove("by")).map(|by| self.expression(&path.key("by"), by));
        self.nothing_else(path, table);
        let mut to: Vec<Share> = shares?;
        let sum: f64 = to.iter().map(|share| share.part).sum();
        for n in 1..to.len() {
            if to[..n].iter().any(|before| before.app == to[n].app) {
                let at = path.key("to").item(n).key("app");
                self.note(&at, "it is named twice; add the weights up");
            }
        }
        to.iter_mut().for_each(|share| share.part /= sum);
        let by = match by {
            Some(None) => return None,
            by => by.flatten(),
        };
        Some(Split { to, by })
    }

    /// A target with its weight, which is a share of nothing yet.
    fn share(&mut self, path: &SettingPath, mut table: Table) -> Option<Share> {
        let app = self
            .required(path, &mut table, "app", "an app or a route")
            .and_then(|app| self.target(&path.key("app"), app));
        let weight = self
            .required(path, &mut table, "weight", "how much of all goes there")
            .and_then(|weight| self.weight(&path.key("weight"), &weight));
        self.nothing_else(path, table);
        Some(Share {
            app: app?,
            part: weight?,
        })
    }

    fn weight(&mut self, path: &SettingPath, value: &Value) -> Option<f64> {
        let weight = match value {
            Value::Integer(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        };
        match weight {
            Some(weight) if weight > 0.0 && weight <= LARGEST_WEIGHT => Some(weight),
            _ => {
                self.note(
                    path,
                    "a number more than 0, of at most a billion, is expected",
                );
                None
            }
        }
    }

    /// A target: that it exists is checked when all routes are known.
    fn target(&mut self, path: &SettingPath, value: Value) -> Option<AppId> {
        let text = self.text(path, value)?;
        match AppId::parse(&text) {
            Ok(app) => {
                self.mentions.push((path.clone(), app.clone()));
                Some(app)
            }
            Err(error) => {
                self.note(path, error);
                None
            }
        }
    }

    fn expression(&mut self, path: &SettingPath, value: Value) -> Option<Expression> {
        let source = self.text(path, value)?;
        let mistakes = match Expression::compile(&source) {
            Ok(expression) => return Some(expression),
            Err(mistakes) => mistakes,
        };
        for mistake in mistakes {
            (self.settings).problem_within(path, &source, mistake.offset, mistake.reason);
        }
        None
    }

    /// A list of tables with at least one, each read by `read`; none if one of them can not be read.
    fn list<T>(
        &mut self,
        path: &SettingPath,
        table: &mut Table,
        key: &str,
        what: &str,
        read: fn(&mut Self, &SettingPath, Table) -> Option<T>,
    ) -> Option<Vec<T>> {
        let value = self.required(path, table, key, what)?;
        let path = path.key(key);
        let items = match value {
            Value::Array(items) if !items.is_empty() => items,
            _ => {
                self.note(&path, format!("{what} is expected"));
                return None;
            }
        };
        let items: Vec<Option<T>> = (items.into_iter().enumerate())
            .map(|(n, item)| {
                let path = path.item(n);
                let table = self.table(&path, item)?;
                read(self, &path, table)
            })
            .collect();
        items.into_iter().collect()
    }

    fn required(
        &mut self,
        path: &SettingPath,
        table: &mut Table,
        key: &str,
        what: &str,
    ) -> Option<Value> {
        let value = table.remove(key);
        if value.is_none() {
            self.note(path, format!("'{key}' is missing: {what}"));
        }
        value
    }

    fn nothing_else(&mut self, path: &SettingPath, table: Table) {
        for key in table.keys() {
            self.note(&path.key(key), "unknown setting");
        }
    }

    fn table(&mut self, path: &SettingPath, value: Value) -> Option<Table> {
        match value {
            Value::Table(table) => Some(table),
            other => {
                let found = other.type_str();
                self.note(path, format!("a table is expected, not a {found}"));
                None
            }
        }
    }

    fn text(&mut self, path: &SettingPath, value: Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text),
            other => {
                let found = other.type_str();
                self.note(path, format!("text is expected, not a {found}"));
                None
            }
        }
    }

    fn note(&mut self, path: &SettingPath, problem: impl std::fmt::Display) {
        self.settings.problem_at(path, problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut settings = Settings::from_toml(text, "warmq.toml");
        let apps = Apps::read(&mut settings);
        let routes = Routes::read(&mut settings, &apps);
        match settings.finish(Some(routes)) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.sentences().to_vec(),
        }
    }

    const APPS: &str = "[apps.'a/one']\n[apps.'a/two']\n";

    #[test]
    fn a_file_without_mistakes_has_its_routes() {
        let text = r#"
            [apps."a/one"]
            [apps."a/two"]
            [routes."a/by-size"]
            kind = "switch"
            default = "a/two"
            [[routes."a/by-size".rules]]
            when = "input.width <= 512"
            to = "a/one"
            [routes."a/ab"]
            kind = "split"
            to = [{ app = "a/by-size", weight = 3 }, { app = "a/two", weight = 1.0 }]
            by = "input.user_id"
        "#;
        let mut settings = Settings::from_toml(text, "warmq.toml");
        let apps = Apps::read(&mut settings);
        let routes = Routes::read(&mut settings, &apps);
        settings.finish(Some(())).unwrap();
        let names: Vec<&str> = routes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a/ab", "a/by-size"]);
        let Some(Route::Split(split)) = routes.get(&AppId::parse("a/ab").unwrap()) else {
            panic!("it is a split");
        };
        let parts: Vec<f64> = split.to.iter().map(|share| share.part).collect();
        assert_eq!(parts, [0.75, 0.25]);
    }

    #[test]
    fn every_mistake_in_every_route_is_told_with_its_place() {
        let text = format!(
            "{APPS}\
             [routes.'Bad']\nkind = 'switch'\n\
             [routes.'r/switch']\nkind = 'switch'\nspeed = 9\nrules = [\n\
             \x20 {{ when = 'input.width <', to = 'a/one' }},\n\
             \x20 {{ when = 'inptu.width > 1', to = 'a/none' }},\n\
             \x20 {{ to = 7 }},\n]\n\
             [routes.'r/split']\nkind = 'split'\nby = 'input.('\n\
             to = [{{ app = 'a/one', weight = 0 }}, {{ app = 'a/two', weight = -1 }}, {{ app = 'a/one' }}]\n\
             [routes.'r/kind']\nkind = 'luck'\n[routes.'r/later']\nkind = 'sequence'\n[routes.'r/none']\n\
             [routes.'r/empty']\nkind = 'split'\nto = []\n"
        );
        let problems = problems(&text);
        let told = |place: &str, what: &str| {
            let found = problems.iter().any(|problem| {
                problem.starts_with(&format!("warmq.toml, {place}: ")) && problem.contains(what)
            });
            assert!(found, "{place}: {what}\n{}", problems.join("\n"));
        };
        told("line 3, column 9", "'Bad' is not an app name");
        told("line 5, column 9", "'default' is missing");
        told("line 7, column 9", "unknown setting");
        told("line 9, column 26", "no CEL");
        told("line 10, column 13", "there is no 'inptu'");
        told(
            "line 10, column 36",
            "no app or route of this file is named 'a/none'",
        );
        told("line 11, column 3", "'when' is missing");
        told("line 11, column 10", "text is expected");
        told("line 15, column 13", "no CEL");
        told("line 16, column 33", "more than 0");
        told("line 16, column 64", "more than 0");
        told("line 16, column 70", "'weight' is missing");
        told("line 18, column 8", "unknown kind 'luck'");
        told("line 20, column 8", "not built yet");
        told("line 21, column 9", "'kind' is missing");
        told("line 24, column 6", "a list of targets");
    }

    #[test]
    fn routes_that_lead_nowhere_or_back_are_refused() {
        let cycle = format!(
            "{APPS}[routes.'r/a']\nkind = 'switch'\ndefault = 'r/b'\nrules = [{{ when = 'true', to = 'a/one' }}]\n\
             [routes.'r/b']\nkind = 'split'\nto = [{{ app = 'r/a', weight = 1 }}]\n\
             [routes.'a/two']\nkind = 'split'\nto = [{{ app = 'a/two', weight = 1 }}]\n"
        );
        let problems = problems(&cycle);
        assert_eq!(problems.len(), 3, "{problems:#?}");
        assert!(
            problems
                .iter()
                .any(|problem| problem.contains("r/a → r/b → r/a"))
        );
        assert!(
            problems
                .iter()
                .any(|problem| problem.contains("a/two → a/two"))
        );
        let same_name = "warmq.toml, line 10, column 9: routes.\"a/two\": an app of this file has the same name";
        assert!(
            problems
                .iter()
                .any(|problem| problem.starts_with(same_name))
        );
    }

    #[test]
    fn a_way_through_more_than_eight_routes_is_refused() {
        let chain = |routes: usize| {
            let mut text = APPS.to_owned();
            for n in 1..=routes {
                let to = match n {
                    1 => "a/one".to_owned(),
                    n => format!("r/{}", n - 1),
                };
                text += &format!(
                    "[routes.'r/{n}']\nkind = 'split'\nto = [{{ app = '{to}', weight = 1 }}]\n"
                );
            }
            problems(&text)
        };
        assert_eq!(chain(check::MOST_HOPS), Vec::<String>::new());
        let refused = chain(check::MOST_HOPS + 1);
        assert_eq!(refused.len(), 1, "{refused:#?}");
        assert!(refused[0].contains("9 routes"), "{refused:#?}");
    }

    #[test]
    fn a_target_that_is_named_twice_is_refused() {
        let text = format!(
            "{APPS}[routes.'r/a']\nkind = 'split'\nto = [{{ app = 'a/one', weight = 1 }}, {{ app = 'a/one', weight = 2 }}]\n"
        );
        assert!(problems(&text)[0].contains("named twice"));
    }
}
