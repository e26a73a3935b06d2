//! Parses the kinds with steps, `sequence` and `fallback`, and their templates.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Value;
use warmq_config::DurationSetting;

use super::reader::{Fields, Item, Reader, given, numbered};
use crate::expression::{Beside, MAX_LEVELS, is_name};
use crate::flow::{Fallback, MAX_STEPS, Sequence, Step};
use crate::template::{Part, Template};

pub(super) fn sequence(reader: &mut Reader<'_>, mut fields: Fields) -> Option<Sequence> {
    let what = "a list of steps, { name = \"draw\", app = \"owner/name\" }";
    check_number(reader, &fields, "steps");
    let mut names = Vec::new();
    let steps = reader.list(&mut fields, "steps", what, |reader, fields| {
        step(reader, fields, &mut names)
    });
    let beside = Beside::Steps(&names);
    let output =
        (fields.take("output")).map(|output| template(reader, output, "output".to_owned(), beside));
    reader.nothing_else(&fields);
    Some(Sequence {
        steps: steps?,
        output: given(output)?,
    })
}

/// Parses a step of a sequence. `names`: those of the steps before it; its own is added.
fn step(reader: &mut Reader<'_>, mut fields: Fields, names: &mut Vec<String>) -> Option<Step> {
    let what = "its name in expressions, as in steps.draw.output";
    let name = reader
        .required(&mut fields, "name", what)
        .and_then(|name| step_name(reader, &name, names));
    let step = step_called(reader, fields, name.clone(), Beside::Steps(names));
    names.extend(name.filter(|name| !names.contains(name)));
    step
}

fn step_name(reader: &mut Reader<'_>, item: &Item, names: &[String]) -> Option<String> {
    let name = reader.text(item)?.to_owned();
    if !is_name(&name) {
        let problem = "a name has letters, digits and _, does not begin with a digit, and is no \
            word of CEL's own";
        reader.note(&item.path, problem);
        return None;
    }
    if names.contains(&name) {
        reader.note(&item.path, "two steps have this name");
    }
    Some(name)
}

pub(super) fn fallback(reader: &mut Reader<'_>, mut fields: Fields) -> Option<Fallback> {
    let what = "a list of apps, \"owner/name\" or { app = \"owner/name\", timeout = 30 }";
    check_number(reader, &fields, "to");
    let items = reader.items(&mut fields, "to", what);
    reader.nothing_else(&fields);
    let mut to: Vec<Option<Step>> = Vec::new();
    for item in items? {
        let (at, step) = match item.value {
            // A plain text is an app without further settings.
            Value::String(_) => (item.path.clone(), plain_choice(reader, &item)),
            _ => (item.path.key("app"), choice(reader, item)),
        };
        if let Some(step) = &step
            && to.iter().flatten().any(|before| before.app == step.app)
        {
            reader.note(&at, "it is named twice; it would fail twice");
        }
        to.push(step);
    }
    let to: Option<Vec<Step>> = to.into_iter().collect();
    Some(Fallback { to: to? })
}

fn plain_choice(reader: &mut Reader<'_>, item: &Item) -> Option<Step> {
    let app = reader.target(item)?;
    Some(Step {
        name: app.to_string(),
        app,
        input: None,
        timeout: None,
    })
}

fn choice(reader: &mut Reader<'_>, item: Item) -> Option<Step> {
    let fields = reader.table(item)?;
    let name = fields.table.get("app").and_then(Value::as_str);
    let name = name.unwrap_or_default().to_owned();
    step_called(reader, fields, Some(name), Beside::Nothing)
}

/// Parses a step of either kind, except for its name.
fn step_called(
    reader: &mut Reader<'_>,
    mut fields: Fields,
    name: Option<String>,
    beside: Beside<'_>,
) -> Option<Step> {
    let app = reader.required_target(&mut fields, "app", "an app or a route");
    let place = format!("step {}, input", name.as_deref().unwrap_or_default());
    let input = (fields.take("input")).map(|input| template(reader, input, place, beside));
    let timeout = (fields.take("timeout")).map(|time| positive_time(reader, &time));
    reader.nothing_else(&fields);
    Some(Step {
        name: name?,
        app: app?,
        input: given(input)?,
        timeout: given(timeout)?,
    })
}

fn positive_time(reader: &mut Reader<'_>, item: &Item) -> Option<Duration> {
    DurationSetting::nonzero_from_toml(&item.value)
        .map_err(|problem| reader.note(&item.path, problem))
        .ok()
        .map(|time| time.duration())
}

fn check_number(reader: &mut Reader<'_>, fields: &Fields, key: &str) {
    let steps = fields.table.get(key).and_then(Value::as_array);
    let steps = steps.map_or(0, Vec::len);
    if steps > MAX_STEPS {
        let reason = format!("it has {steps} steps, the maximum is {MAX_STEPS}");
        reader.note(&fields.path.key(key), reason);
    }
}

/// Parses a template. `place`: location in the route, for errors.
fn template(
    reader: &mut Reader<'_>,
    item: Item,
    place: String,
    beside: Beside<'_>,
) -> Option<Template> {
    let whole = part(reader, item, beside, MAX_LEVELS);
    Some(Template {
        // A route with an invalid name is discarded by the caller.
        route: reader.name?.clone(),
        place,
        whole: whole?,
    })
}

fn part(
    reader: &mut Reader<'_>,
    item: Item,
    beside: Beside<'_>,
    levels_left: usize,
) -> Option<Part> {
    let Some(levels_left) = levels_left.checked_sub(1) else {
        let reason = format!("it is nested more than {MAX_LEVELS} levels deep");
        reader.note(&item.path, reason);
        return None;
    };
    let Item { path, value } = item;
    match value {
        Value::String(_) => {
            let expression = reader.expression(&Item { path, value }, beside)?;
            Some(Part::Expression(Box::new(expression)))
        }
        Value::Integer(number) => Some(Part::Literal(number.into())),
        Value::Float(number) if number.is_finite() => Some(Part::Literal(number.into())),
        Value::Boolean(truth) => Some(Part::Literal(truth.into())),
        Value::Float(_) | Value::Datetime(_) => {
            let problem = "JSON has no such value; a text is to be in CEL's quotes";
            reader.note(&path, problem);
            None
        }
        Value::Array(items) => {
            let items = numbered(&path, items).into_iter();
            let items = items.map(|item| part(reader, item, beside, levels_left));
            let items: Vec<Option<Part>> = items.collect();
            items.into_iter().collect::<Option<_>>().map(Part::List)
        }
        Value::Table(table) => {
            let fields = table.into_iter().map(|(key, value)| {
                let path = path.key(&key);
                let part = part(reader, Item { path, value }, beside, levels_left);
                part.map(|part| (key, part))
            });
            let fields: Vec<Option<(String, Part)>> = fields.collect();
            let fields: Option<BTreeMap<String, Part>> = fields.into_iter().collect();
            fields.map(Part::Table)
        }
    }
}
