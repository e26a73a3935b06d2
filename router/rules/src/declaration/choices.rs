//! Parses the kinds that choose one target at submission: `switch` and `split`.

use toml::{Table, Value};
use warmq_config::SettingPath;

use super::reader::{Reader, given};
use crate::expression::{Beside, Expression};
use crate::split::{Share, Split};
use crate::switch::{Rule, Switch};

/// Largest weight: small enough that a weight of 1 beside it keeps a share.
const MAX_WEIGHT: f64 = 1e9;

pub(super) fn switch(
    reader: &mut Reader<'_>,
    path: &SettingPath,
    mut table: Table,
) -> Option<Switch> {
    let what = "a list of rules, { when = \"…\", to = \"owner/name\" }";
    let rules = reader.list(path, &mut table, "rules", what, rule);
    let default =
        reader.required_target(path, &mut table, "default", "the target if no rule applies");
    reader.nothing_else(path, table);
    Some(Switch {
        rules: rules?,
        default: default?,
    })
}

fn rule(reader: &mut Reader<'_>, path: &SettingPath, mut table: Table) -> Option<Rule> {
    let when = reader
        .required(path, &mut table, "when", "a condition in CEL")
        .and_then(|when| condition(reader, &path.key("when"), when));
    let to = reader.required_target(path, &mut table, "to", "an app or a route");
    reader.nothing_else(path, table);
    Some(Rule {
        when: when?,
        to: to?,
    })
}

pub(super) fn split(
    reader: &mut Reader<'_>,
    path: &SettingPath,
    mut table: Table,
) -> Option<Split> {
    let what = "a list of targets, { app = \"owner/name\", weight = 80 }";
    let shares = reader.list(path, &mut table, "to", what, share);
    let by = (table.remove("by")).map(|by| condition(reader, &path.key("by"), by));
    reader.nothing_else(path, table);
    let mut to: Vec<Share> = shares?;
    let sum: f64 = to.iter().map(|share| share.part).sum();
    for n in 1..to.len() {
        if to[..n].iter().any(|before| before.app == to[n].app) {
            let at = path.key("to").item(n).key("app");
            reader.note(&at, "it is named twice; add the weights up");
        }
    }
    to.iter_mut().for_each(|share| share.part /= sum);
    Some(Split { to, by: given(by)? })
}

/// Parses a target; its part is its weight until the sum is known.
fn share(reader: &mut Reader<'_>, path: &SettingPath, mut table: Table) -> Option<Share> {
    let app = reader.required_target(path, &mut table, "app", "an app or a route");
    let weight = reader
        .required(path, &mut table, "weight", "its part of all submissions")
        .and_then(|weight| number(reader, &path.key("weight"), &weight));
    reader.nothing_else(path, table);
    Some(Share {
        app: app?,
        part: weight?,
    })
}

/// Parses a weight.
fn number(reader: &mut Reader<'_>, path: &SettingPath, value: &Value) -> Option<f64> {
    let weight = match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    };
    match weight {
        Some(weight) if weight > 0.0 && weight <= MAX_WEIGHT => Some(weight),
        _ => {
            reader.note(
                path,
                "a number more than 0, of at most a billion, is expected",
            );
            None
        }
    }
}

/// Parses the condition of a rule, or the key of a split.
fn condition(reader: &mut Reader<'_>, path: &SettingPath, value: Value) -> Option<Expression> {
    let apps = reader.apps;
    reader.expression(path, value, Beside::Apps(apps))
}
