//! Parses the kinds with steps, `sequence` and `fallback`, and their templates.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Value;
use warmq_config::DurationSetting;

use super::reader::{Fields, Item, Reader, given, numbered};
use crate::expression::{ExtraVariables, MAX_LEVELS, is_name};
use crate::flow::{DeclaredStep, Fallback, MAX_STEPS, Sequence};
use crate::template::{Node, Template};

pub(super) fn sequence(reader: &mut Reader<'_>, mut fields: Fields) -> Option<Sequence> {
    let what = "a list of steps, { name = \"draw\", app = \"owner/name\" }";
    check_number(reader, &fields, "steps");
    let mut names = Vec::new();
    let steps = reader.list(&mut fields, "steps", what, |reader, fields| {
        step(reader, fields, &mut names)
    });
    let extra = ExtraVariables::Steps(&names);
    let output =
        (fields.take("output")).map(|output| template(reader, output, "output".to_owned(), extra));
    reader.reject_unknown(&fields);
    Some(Sequence {
        steps: steps?,
        output: given(output)?,
    })
}

/// Parses a step of a sequence. `names`: those of the steps before it; its own is added.
fn step(
    reader: &mut Reader<'_>,
    mut fields: Fields,
    names: &mut Vec<String>,
) -> Option<DeclaredStep> {
    let what = "its name in expressions, as in steps.draw.output";
    let name = reader
        .required(&mut fields, "name", what)
        .and_then(|name| step_name(reader, &name, names));
    let step = step_called(reader, fields, name.clone(), ExtraVariables::Steps(names));
    names.extend(name.filter(|name| !names.contains(name)));
    step
}

fn step_name(reader: &mut Reader<'_>, item: &Item, names: &[String]) -> Option<String> {
    let name = reader.text(item)?.to_owned();
    if !is_name(&name) {
        let problem = "a step name has letters, digits and _, does not begin with a digit, and is not a \
            CEL keyword";
        reader.note(&item.path, problem);
        return None;
    }
    if names.contains(&name) {
        reader.note(&item.path, "duplicate step name");
    }
    Some(name)
}

pub(super) fn fallback(reader: &mut Reader<'_>, mut fields: Fields) -> Option<Fallback> {
    let what = "a list of apps, \"owner/name\" or { app = \"owner/name\", timeout = 30 }";
    check_number(reader, &fields, "to");
    let items = reader.items(&mut fields, "to", what);
    reader.reject_unknown(&fields);
    let mut to: Vec<Option<DeclaredStep>> = Vec::new();
    for item in items? {
        let (at, step) = match item.value {
            // A plain text is an app without further settings.
            Value::String(_) => (item.path.clone(), plain_choice(reader, &item)),
            _ => (item.path.key("app"), choice(reader, item)),
        };
        if let Some(step) = &step
            && to.iter().flatten().any(|before| before.app == step.app)
        {
            reader.note(&at, "duplicate target");
        }
        to.push(step);
    }
    let to: Option<Vec<DeclaredStep>> = to.into_iter().collect();
    Some(Fallback { to: to? })
}

fn plain_choice(reader: &mut Reader<'_>, item: &Item) -> Option<DeclaredStep> {
    let app = reader.target(item)?;
    Some(DeclaredStep {
        name: app.to_string(),
        app,
        input: None,
        timeout: None,
    })
}

fn choice(reader: &mut Reader<'_>, item: Item) -> Option<DeclaredStep> {
    let fields = reader.table(item)?;
    let name = fields.table.get("app").and_then(Value::as_str);
    let name = name.unwrap_or_default().to_owned();
    step_called(reader, fields, Some(name), ExtraVariables::None)
}

/// Parses a step of either kind, except for its name.
fn step_called(
    reader: &mut Reader<'_>,
    mut fields: Fields,
    name: Option<String>,
    extra: ExtraVariables<'_>,
) -> Option<DeclaredStep> {
    let app = reader.required_target(&mut fields, "app", "an app or a route");
    let place = format!("step {}, input", name.as_deref().unwrap_or_default());
    let input = (fields.take("input")).map(|input| template(reader, input, place, extra));
    let timeout = (fields.take("timeout")).map(|time| positive_time(reader, &time));
    reader.reject_unknown(&fields);
    Some(DeclaredStep {
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
        let reason = format!("{steps} steps, more than the limit of {MAX_STEPS}");
        reader.note(&fields.path.key(key), reason);
    }
}

/// Parses a template. `place`: location in the route, for errors.
fn template(
    reader: &mut Reader<'_>,
    item: Item,
    place: String,
    extra: ExtraVariables<'_>,
) -> Option<Template> {
    let whole = part(reader, item, extra, MAX_LEVELS);
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
    extra: ExtraVariables<'_>,
    levels_left: usize,
) -> Option<Node> {
    let Some(levels_left) = levels_left.checked_sub(1) else {
        let reason = format!("nested more than {MAX_LEVELS} levels deep");
        reader.note(&item.path, reason);
        return None;
    };
    let Item { path, value } = item;
    match value {
        Value::String(_) => {
            let expression = reader.expression(&Item { path, value }, extra)?;
            Some(Node::Expression(Box::new(expression)))
        }
        Value::Integer(number) => Some(Node::Literal(number.into())),
        Value::Float(number) if number.is_finite() => Some(Node::Literal(number.into())),
        Value::Boolean(boolean) => Some(Node::Literal(boolean.into())),
        Value::Float(_) | Value::Datetime(_) => {
            let problem = "not a JSON value; write text in CEL's quotes: \"'…'\"";
            reader.note(&path, problem);
            None
        }
        Value::Array(items) => {
            let items = numbered(&path, items).into_iter();
            let items = items.map(|item| part(reader, item, extra, levels_left));
            let items: Vec<Option<Node>> = items.collect();
            items.into_iter().collect::<Option<_>>().map(Node::List)
        }
        Value::Table(table) => {
            let fields = table.into_iter().map(|(key, value)| {
                let path = path.key(&key);
                let part = part(reader, Item { path, value }, extra, levels_left);
                part.map(|part| (key, part))
            });
            let fields: Vec<Option<(String, Node)>> = fields.collect();
            let fields: Option<BTreeMap<String, Node>> = fields.into_iter().collect();
            fields.map(Node::Table)
        }
    }
}
