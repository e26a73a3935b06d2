//! Reads one route, part by part.

use std::collections::BTreeSet;

use toml::{Table, Value};
use warmq_config::{SettingPath, Settings, kind};
use warmq_types::ids::AppId;

use super::Route;
use crate::check::Mention;
use crate::expression::{Beside, Expression};

/// The kinds, for messages.
const KINDS: &str = "known: switch, split, sequence, fallback";

/// Reads one route. What is wrong is noted, and the rest is read all the same.
pub(super) struct Reader<'s> {
    pub(super) settings: &'s mut Settings,
    /// The apps of the file.
    pub(super) apps: &'s BTreeSet<AppId>,
    /// The route's name; none if it has one that cannot be a name.
    pub(super) name: Option<&'s AppId>,
    /// The targets that it names.
    pub(super) mentions: Vec<Mention>,
}

impl Reader<'_> {
    pub(super) fn route(&mut self, path: &SettingPath, mut table: Table) -> Option<Route> {
        let kind = self.required(path, &mut table, "kind", KINDS)?;
        let at = path.key("kind");
        match self.text(&at, kind)?.as_str() {
            "switch" => self.switch(path, table).map(Route::Switch),
            "split" => self.split(path, table).map(Route::Split),
            "sequence" => self.sequence(path, table).map(Route::Sequence),
            "fallback" => self.fallback(path, table).map(Route::Fallback),
            other => {
                self.note(&at, format!("unknown kind '{other}'; {KINDS}"));
                None
            }
        }
    }

    /// A target: that it exists is checked when all routes are known.
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

    /// A list of tables with at least one, each read by `read`; none if one of them cannot be
    /// read.
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

    /// What is in a list with at least one item, with its places.
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

/// What was read of a setting that may be absent. None if it is there and cannot be read.
pub(super) fn given<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(None) => None,
        read => Some(read.flatten()),
    }
}
