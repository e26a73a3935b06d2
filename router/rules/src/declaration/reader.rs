//! Parses one route, and the kinds of values of which routes consist.

use std::collections::BTreeSet;

use toml::{Table, Value};
use warmq_config::{SettingPath, Settings, kind};
use warmq_types::ids::AppId;

use super::{Route, choices, steps};
use crate::expression::{Expression, ExtraVariables};
use crate::route_graph::Mention;

/// The kinds, for messages.
const KINDS: &str = "known: switch, split, sequence, fallback";

/// A value of the file.
pub(super) struct Item {
    pub(super) path: SettingPath,
    pub(super) value: Value,
}

/// Settings of a table that are not parsed yet.
pub(super) struct Fields {
    pub(super) path: SettingPath,
    pub(super) table: Table,
}

impl Fields {
    /// Removes a setting.
    pub(super) fn take(&mut self, key: &str) -> Option<Item> {
        let value = self.table.remove(key)?;
        let path = self.path.key(key);
        Some(Item { path, value })
    }
}

/// Parses one route. After a mistake, which is added to the settings' problems, it continues.
pub(super) struct Reader<'s> {
    pub(super) settings: &'s mut Settings,
    /// Apps of the file.
    pub(super) apps: &'s BTreeSet<AppId>,
    /// Name of the route; `None` if it is invalid.
    pub(super) name: Option<&'s AppId>,
    /// Targets named by the route.
    pub(super) mentions: Vec<Mention>,
}

impl Reader<'_> {
    pub(super) fn route(&mut self, mut fields: Fields) -> Option<Route> {
        let kind = self.required(&mut fields, "kind", KINDS)?;
        match self.text(&kind)? {
            "switch" => choices::switch(self, fields).map(Route::Switch),
            "split" => choices::split(self, fields).map(Route::Split),
            "sequence" => steps::sequence(self, fields).map(Route::Sequence),
            "fallback" => steps::fallback(self, fields).map(Route::Fallback),
            other => {
                self.note(&kind.path, format!("unknown kind '{other}'; {KINDS}"));
                None
            }
        }
    }

    /// Parses a required target.
    pub(super) fn required_target(
        &mut self,
        fields: &mut Fields,
        key: &str,
        what: &str,
    ) -> Option<AppId> {
        let item = self.required(fields, key, what)?;
        self.target(&item)
    }

    /// Parses a target; its existence is checked when all routes are known.
    pub(super) fn target(&mut self, item: &Item) -> Option<AppId> {
        match AppId::parse(self.text(item)?) {
            Ok(app) => {
                self.mentions.push((item.path.clone(), app.clone()));
                Some(app)
            }
            Err(error) => {
                self.note(&item.path, error);
                None
            }
        }
    }

    pub(super) fn expression(
        &mut self,
        item: &Item,
        extra: ExtraVariables<'_>,
    ) -> Option<Expression> {
        let source = self.text(item)?;
        let mistakes = match Expression::compile(source, extra) {
            Ok(expression) => return Some(expression),
            Err(mistakes) => mistakes,
        };
        for mistake in mistakes {
            (self.settings).problem_within(&item.path, source, mistake.offset, mistake.reason);
        }
        None
    }

    /// Parses a list of at least one table, each by `read`; `None` if one of them is invalid.
    pub(super) fn list<T>(
        &mut self,
        fields: &mut Fields,
        key: &str,
        what: &str,
        mut read: impl FnMut(&mut Self, Fields) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = self.items(fields, key, what)?.into_iter();
        let read = items.map(|item| {
            let fields = self.table(item)?;
            read(self, fields)
        });
        // All are parsed, so that all mistakes are reported.
        read.collect::<Vec<Option<T>>>().into_iter().collect()
    }

    /// Returns the items of a list with at least one.
    pub(super) fn items(
        &mut self,
        fields: &mut Fields,
        key: &str,
        what: &str,
    ) -> Option<Vec<Item>> {
        let Item { path, value } = self.required(fields, key, what)?;
        match value {
            Value::Array(items) if !items.is_empty() => Some(numbered(&path, items)),
            _ => {
                self.note(&path, format!("expected {what}"));
                None
            }
        }
    }

    /// Removes a setting; its absence is a problem. `what`: its description.
    pub(super) fn required(&mut self, fields: &mut Fields, key: &str, what: &str) -> Option<Item> {
        let item = fields.take(key);
        if item.is_none() {
            self.note(&fields.path, format!("'{key}' is missing: {what}"));
        }
        item
    }

    /// Reports the settings that remain.
    pub(super) fn reject_unknown(&mut self, fields: &Fields) {
        for key in fields.table.keys() {
            self.note(&fields.path.key(key), "unknown setting");
        }
    }

    pub(super) fn table(&mut self, Item { path, value }: Item) -> Option<Fields> {
        match value {
            Value::Table(table) => Some(Fields { path, table }),
            other => {
                let found = kind(&other);
                self.note(&path, format!("expected a table, not {found}"));
                None
            }
        }
    }

    pub(super) fn text<'i>(&mut self, item: &'i Item) -> Option<&'i str> {
        let text = item.value.as_str();
        if text.is_none() {
            let found = kind(&item.value);
            self.note(&item.path, format!("expected text, not {found}"));
        }
        text
    }

    pub(super) fn note(&mut self, path: &SettingPath, problem: impl std::fmt::Display) {
        self.settings.problem_at(path, problem);
    }
}

/// Returns the items of a list.
pub(super) fn numbered(path: &SettingPath, items: Vec<Value>) -> Vec<Item> {
    let items = items.into_iter().enumerate();
    items
        .map(|(n, value)| Item {
            path: path.item(n),
            value,
        })
        .collect()
}

/// Flattens an optional setting; `None` if it is present and invalid.
pub(super) fn given<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(None) => None,
        read => Some(read.flatten()),
    }
}
