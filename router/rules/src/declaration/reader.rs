//! Parses one route, and the kinds of values of which routes consist.

use std::collections::BTreeSet;

use toml::{Table, Value};
use warmq_config::{SettingPath, Settings, kind};
use warmq_types::ids::AppId;

use super::{Route, choices, steps};
use crate::check::Mention;
use crate::expression::{Beside, Expression};

/// The kinds, for messages.
const KINDS: &str = "known: switch, split, sequence, fallback";

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
    pub(super) fn route(&mut self, path: &SettingPath, mut table: Table) -> Option<Route> {
        let kind = self.required(path, &mut table, "kind", KINDS)?;
        let at = path.key("kind");
        match self.text(&at, kind)?.as_str() {
            "switch" => choices::switch(self, path, table).map(Route::Switch),
            "split" => choices::split(self, path, table).map(Route::Split),
            "sequence" => steps::sequence(self, path, table).map(Route::Sequence),
            "fallback" => steps::fallback(self, path, table).map(Route::Fallback),
            other => {
                self.note(&at, format!("unknown kind '{other}'; {KINDS}"));
                None
            }
        }
    }

    /// Parses a required target.
    pub(super) fn required_target(
        &mut self,
        path: &SettingPath,
        table: &mut Table,
        key: &str,
        what: &str,
    ) -> Option<AppId> {
        let target = self.required(path, table, key, what)?;
        self.target(&path.key(key), target)
    }

    /// Parses a target; its existence is checked when all routes are known.
    pub(super) fn target(&mut self, path: &SettingPath, value: Value) -> Option<AppId> {
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

    pub(super) fn expression(
        &mut self,
        path: &SettingPath,
        value: Value,
        beside: Beside<'_>,
    ) -> Option<Expression> {
        let source = self.text(path, value)?;
        let mistakes = match Expression::compile(&source, beside) {
            Ok(expression) => return Some(expression),
            Err(mistakes) => mistakes,
        };
        for mistake in mistakes {
            (self.settings).problem_within(path, &source, mistake.offset, mistake.reason);
        }
        None
    }

    /// Parses a list of at least one table, each by `read`; `None` if one of them is invalid.
    pub(super) fn list<T>(
        &mut self,
        path: &SettingPath,
        table: &mut Table,
        key: &str,
        what: &str,
        mut read: impl FnMut(&mut Self, &SettingPath, Table) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items: Vec<Option<T>> = (self.items(path, table, key, what)?.into_iter())
            .map(|(path, item)| {
                let table = self.table(&path, item)?;
                read(self, &path, table)
            })
            .collect();
        items.into_iter().collect()
    }

    /// Returns the items of a list with at least one, with their paths.
    pub(super) fn items(
        &mut self,
        path: &SettingPath,
        table: &mut Table,
        key: &str,
        what: &str,
    ) -> Option<Vec<(SettingPath, Value)>> {
        let value = self.required(path, table, key, what)?;
        let path = path.key(key);
        match value {
            Value::Array(items) if !items.is_empty() => {
                let items = items.into_iter().enumerate();
                Some(items.map(|(n, item)| (path.item(n), item)).collect())
            }
            _ => {
                self.note(&path, format!("{what} is expected"));
                None
            }
        }
    }

    /// Removes a setting; its absence is a problem. `what`: its description.
    pub(super) fn required(
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

    /// Reports the settings that remain.
    pub(super) fn nothing_else(&mut self, path: &SettingPath, table: Table) {
        for key in table.keys() {
            self.note(&path.key(key), "unknown setting");
        }
    }

    pub(super) fn table(&mut self, path: &SettingPath, value: Value) -> Option<Table> {
        match value {
            Value::Table(table) => Some(table),
            other => {
                let found = kind(&other);
                self.note(path, format!("a table is expected, not {found}"));
                None
            }
        }
    }

    pub(super) fn text(&mut self, path: &SettingPath, value: Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text),
            other => {
                let found = kind(&other);
                self.note(path, format!("text is expected, not {found}"));
                None
            }
        }
    }

    pub(super) fn note(&mut self, path: &SettingPath, problem: impl std::fmt::Display) {
        self.settings.problem_at(path, problem);
    }
}

/// Flattens an optional setting; `None` if it is present and invalid.
pub(super) fn given<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(None) => None,
        read => Some(read.flatten()),
    }
}
