//! Parses the kinds that choose one target at submission: `switch` and `split`.

use toml::Value;

use super::reader::{Fields, Item, Reader, given};
use crate::expression::{Expression, ExtraVariables};
use crate::split::{Share, Split};
use crate::switch::{Rule, Switch};

/// Largest weight: small enough that a weight of 1 beside it keeps a share.
const MAX_WEIGHT: f64 = 1e9;

pub(super) fn switch(reader: &mut Reader<'_>, mut fields: Fields) -> Option<Switch> {
    let what = "a list of rules, { when = \"…\", to = \"owner/name\" }";
    let rules = reader.list(&mut fields, "rules", what, rule);
    let what = "the target if no rule applies";
    let default = reader.required_target(&mut fields, "default", what);
    reader.reject_unknown(&fields);
    Some(Switch {
        rules: rules?,
        default: default?,
    })
}

fn rule(reader: &mut Reader<'_>, mut fields: Fields) -> Option<Rule> {
    let when = reader
        .required(&mut fields, "when", "a condition in CEL")
        .and_then(|when| condition(reader, &when));
    let to = reader.required_target(&mut fields, "to", "an app or a route");
    reader.reject_unknown(&fields);
    Some(Rule {
        when: when?,
        to: to?,
    })
}

pub(super) fn split(reader: &mut Reader<'_>, mut fields: Fields) -> Option<Split> {
    let what = "a list of targets, { app = \"owner/name\", weight = 80 }";
    let shares = reader.list(&mut fields, "to", what, share);
    let by = fields.take("by").map(|by| condition(reader, &by));
    reader.reject_unknown(&fields);
    let mut to: Vec<Share> = shares?;
    let sum: f64 = to.iter().map(|share| share.part).sum();
    for n in 1..to.len() {
        if to[..n].iter().any(|before| before.app == to[n].app) {
            let at = fields.path.key("to").item(n).key("app");
            reader.note(&at, "duplicate target; add up the weights");
        }
    }
    to.iter_mut().for_each(|share| share.part /= sum);
    Some(Split { to, by: given(by)? })
}

/// Parses a target; its part is its weight until the sum is known.
fn share(reader: &mut Reader<'_>, mut fields: Fields) -> Option<Share> {
    let app = reader.required_target(&mut fields, "app", "an app or a route");
    let part = reader
        .required(&mut fields, "weight", "its part of all submissions")
        .and_then(|weight| number(reader, &weight));
    reader.reject_unknown(&fields);
    Some(Share {
        app: app?,
        part: part?,
    })
}

/// Parses a weight.
fn number(reader: &mut Reader<'_>, item: &Item) -> Option<f64> {
    let weight = match item.value {
        Value::Integer(number) => Some(number as f64),
        Value::Float(number) => Some(number),
        _ => None,
    };
    let valid = weight.filter(|weight| *weight > 0.0 && *weight <= MAX_WEIGHT);
    if valid.is_none() {
        let problem = "expected a number greater than 0 and at most 1000000000";
        reader.note(&item.path, problem);
    }
    valid
}

/// Parses the condition of a rule, or the key of a split.
fn condition(reader: &mut Reader<'_>, item: &Item) -> Option<Expression> {
    let apps = reader.apps;
    reader.expression(item, ExtraVariables::Apps(apps))
}
