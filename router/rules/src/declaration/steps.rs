//! Parses the kinds with steps, `sequence` and `fallback`, and their templates.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;
use toml::{Table, Value};
use warmq_config::{Seconds, SettingPath};

use super::reader::{Reader, given};
use crate::expression::{Beside, MAX_LEVELS, is_name};
use crate::flow::{Fallback, MAX_STEPS, Sequence, Step};
use crate::template::{Part, Template};

pub(super) fn sequence(
    reader: &mut Reader<'_>,
    path: &SettingPath,
    mut table: Table,
) -> Option<Sequence> {
    let what = "a list of steps, { name = \"draw\", app = \"owner/name\" }";
    check_number(reader, path, &table, "steps");
    let mut names = Vec::new();
    let steps = reader.list(path, &mut table, "steps", what, |reader, path, table| {
        step(reader, path, table, &mut names)
    });
    let output = table.remove("output").map(|output| {
        let at = path.key("output");
        template(
            reader,
            &at,
            output,
            "output".to_owned(),
            Beside::Steps(&names),
        )
    });
    reader.nothing_else(path, table);
    Some(Sequence {
        steps: steps?,
        output: given(output)?,
    })
}

/// Parses a step of a sequence. `names`: those of the steps before it; its own is added.
fn step(
    reader: &mut Reader<'_>,
    path: &SettingPath,
    mut table: Table,
    names: &mut Vec<String>,
) -> Option<Step> {
    let what = "its name in expressions, as in steps.draw.output";
    let name = reader
        .required(path, &mut table, "name", what)
        .and_then(|name| step_name(reader, &path.key("name"), name, names));
    let beside = Beside::Steps(names);
    let step = step_called(reader, path, table, name.clone(), beside);
    names.extend(name.filter(|name| !names.contains(name)));
    step
}

fn step_name(
    reader: &mut Reader<'_>,
    path: &SettingPath,
    value: Value,
    names: &[String],
) -> Option<String> {
    let name = reader.text(path, value)?;
    if !is_name(&name) {
        reader.note(
            path,
            "a name has letters, digits and _, does not begin with a digit, and is no word of CEL's own",
        );
        return None;
    }
    if names.contains(&name) {
        reader.note(path, "two steps have this name");
    }
    Some(name)
}

pub(super) fn fallback(
    reader: &mut Reader<'_>,
    path: &SettingPath,
    mut table: Table,
) -> Option<Fallback> {
    let what = "a list of apps, \"owner/name\" or { app = \"owner/name\", timeout = 30 }";
    check_number(reader, path, &table, "to");
    let items = reader.items(path, &mut table, "to", what);
    reader.nothing_else(path, table);
    let mut to: Vec<Option<Step>> = Vec::new();
    for (path, item) in items? {
        let (at, step) = match item {
            // A plain text is an app without further settings.
            Value::String(_) => (path.clone(), plain_choice(reader, &path, item)),
            item => (path.key("app"), choice(reader, &path, item)),
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

fn plain_choice(reader: &mut Reader<'_>, path: &SettingPath, value: Value) -> Option<Step> {
    let app = reader.target(path, value)?;
    Some(Step {
        name: app.to_string(),
        app,
        input: None,
        timeout: None,
    })
}

fn choice(reader: &mut Reader<'_>, path: &SettingPath, value: Value) -> Option<Step> {
    let table = reader.table(path, value)?;
    let name = table.get("app").and_then(Value::as_str);
    let name = name.unwrap_or_default().to_owned();
    step_called(reader, path, table, Some(name), Beside::Nothing)
}

/// Parses a step of either kind, except for its name.
fn step_called(
    reader: &mut Reader<'_>,
    path: &SettingPath,
    mut table: Table,
    name: Option<String>,
    beside: Beside<'_>,
) -> Option<Step> {
    let app = reader.required_target(path, &mut table, "app", "an app or a route");
    let place = format!("step {}, input", name.as_deref().unwrap_or_default());
    let input = (table.remove("input"))
        .map(|input| template(reader, &path.key("input"), input, place, beside));
    let timeout =
        (table.remove("timeout")).map(|time| some_time(reader, &path.key("timeout"), &time));
    reader.nothing_else(path, table);
    Some(Step {
        name: name?,
        app: app?,
        input: given(input)?,
        timeout: given(timeout)?,
    })
}

fn some_time(reader: &mut Reader<'_>, path: &SettingPath, value: &Value) -> Option<Duration> {
    match Seconds::some_from_toml(value) {
        Ok(time) => Some(time.duration()),
        Err(problem) => {
            reader.note(path, problem);
            None
        }
    }
}

fn check_number(reader: &mut Reader<'_>, path: &SettingPath, table: &Table, key: &str) {
    let steps = table.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    if steps > MAX_STEPS {
        let reason = format!("it has {steps} steps, {MAX_STEPS} are the most");
        reader.note(&path.key(key), reason);
    }
}

/// Parses a template. `place`: location in the route, for errors.
fn template(
    reader: &mut Reader<'_>,
    path: &SettingPath,
    value: Value,
    place: String,
    beside: Beside<'_>,
) -> Option<Template> {
    let whole = part(reader, path, value, beside, MAX_LEVELS);
    Some(Template {
        // A route with an invalid name is discarded by the caller.
        route: reader.name?.clone(),
        place,
        whole: whole?,
    })
}

fn part(
    reader: &mut Reader<'_>,
    path: &SettingPath,
    value: Value,
    beside: Beside<'_>,
    levels_left: usize,
) -> Option<Part> {
    let Some(levels_left) = levels_left.checked_sub(1) else {
        let reason = format!("it is nested more than {MAX_LEVELS} levels deep");
        reader.note(path, reason);
        return None;
    };
    match value {
        Value::String(_) => {
            let expression = reader.expression(path, value, beside)?;
            Some(Part::Expression(Box::new(expression)))
        }
        Value::Integer(number) => Some(Part::Literal(number.into())),
        Value::Float(number) if number.is_finite() => Some(Part::Literal(number.into())),
        Value::Boolean(truth) => Some(Part::Literal(Json::Bool(truth))),
        Value::Float(_) | Value::Datetime(_) => {
            reader.note(
                path,
                "JSON has no such value; a text is to be in CEL's quotes",
            );
            None
        }
        Value::Array(items) => {
            let items: Vec<Option<Part>> = (items.into_iter().enumerate())
                .map(|(n, item)| part(reader, &path.item(n), item, beside, levels_left))
                .collect();
            let items: Option<Vec<Part>> = items.into_iter().collect();
            items.map(Part::List)
        }
        Value::Table(fields) => {
            let fields: Vec<Option<(String, Part)>> = fields
                .into_iter()
                .map(|(key, value)| {
                    let part = part(reader, &path.key(&key), value, beside, levels_left);
                    part.map(|part| (key, part))
                })
                .collect();
            let fields: Option<BTreeMap<String, Part>> = fields.into_iter().collect();
            fields.map(Part::Table)
        }
    }
}
