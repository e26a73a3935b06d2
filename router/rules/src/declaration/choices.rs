//! The kinds that choose at submission, read.

use toml::{Table, Value};
use warmq_config::SettingPath;

use super::reader::{Reader, given};
use crate::expression::{Beside, Expression};
use crate::split::{Share, Split};
use crate::switch::{Rule, Switch};

/// The largest weight: beside it, a weight of 1 is still a share.
const MAX_WEIGHT: f64 = 1e9;

impl Reader<'_> {
    pub(super) fn switch(&mut self, path: &SettingPath, mut table: Table) -> Option<Switch> {
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
            .and_then(|when| self.condition(&path.key("when"), when));
        let to = self
            .required(path, &mut table, "to", "an app or a route")
            .and_then(|to| self.target(&path.key("to"), to));
        self.nothing_else(path, table);
        Some(Rule {
            when: when?,
            to: to?,
        })
    }

    pub(super) fn split(&mut self, path: &SettingPath, mut table: Table) -> Option<Split> {
        let what = "a list of targets, { app = \"owner/name\", weight = 80 }";
        let shares = self.list(path, &mut table, "to", what, Self::share);
        let by = (table.remove("by")).map(|by| self.condition(&path.key("by"), by));
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
        Some(Split { to, by: given(by)? })
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
            Some(weight) if weight > 0.0 && weight <= MAX_WEIGHT => Some(weight),
            _ => {
                self.note(
                    path,
                    "a number more than 0, of at most a billion, is expected",
                );
                None
            }
        }
    }

    /// What a route chooses by.
    fn condition(&mut self, path: &SettingPath, value: Value) -> Option<Expression> {
        let apps = self.apps;
        self.expression(path, value, Beside::Apps(apps))
    }
}
