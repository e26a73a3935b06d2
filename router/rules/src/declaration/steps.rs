//! The kinds that take steps, read, with their templates.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;
use toml::{Table, Value};
use warmq_config::{DurationSetting, SettingPath};

use super::reader::{Reader, given};
use crate::expression::{Beside, MAX_LEVELS, is_name};
use crate::flow::{Fallback, MAX_STEPS, Sequence, Step};
use crate::template::{Part, Template};

impl Reader<'_> {
    pub(super) fn sequence(&mut self, path: &SettingPath, mut table: Table) -> Option<Sequence> {
        let what = "a list of steps, { name = \"draw\", app = \"owner/name\" }";
        self.not_too_many(path, &table, "steps");
        let mut names = Vec::new();
        let steps = self.list(path, &mut table, "steps", what, |reader, path, table| {
            reader.step(path, table, &mut names)
        });
        let output = table.remove("output").map(|output| {
            let at = path.key("output");
            self.template(&at, output, "output".to_owned(), Beside::Steps(&names))
        });
        self.nothing_else(path, table);
        Some(Sequence {
            steps: steps?,
            output: given(output)?,
        })
    }

    /// A step of a sequence. `names`: those of the steps before it, and afterwards its own, too.
    fn step(
        &mut self,
        path: &SettingPath,
        mut table: Table,
        names: &mut Vec<String>,
    ) -> Option<Step> {
        let what = "how expressions name it, as in steps.draw.output";
        let name = self
            .required(path, &mut table, "name", what)
            .and_then(|name| self.step_name(&path.key("name"), name, names));
        let beside = Beside::Steps(names);
        let step = self.step_called(path, table, name.clone(), beside);
        names.extend(name.filter(|name| !names.contains(name)));
        step
    }

    fn step_name(&mut self, path: &SettingPath, value: Value, names: &[String]) -> Option<String> {
        let name = self.text(path, value)?;
        if !is_name(&name) {
            self.note(
                path,
                "a name has letters, digits and _, begins with no digit, and is no word of CEL's own",
            );
            return None;
        }
        if names.contains(&name) {
            self.note(path, "two steps have this name");
        }
        Some(name)
    }

    pub(super) fn fallback(&mut self, path: &SettingPath, mut table: Table) -> Option<Fallback> {
        let what = "a list of apps, \"owner/name\" or { app = \"owner/name\", timeout = 30 }";
        self.not_too_many(path, &table, "to");
        let items = self.items(path, &mut table, "to", what);
        self.nothing_else(path, table);
        let mut to: Vec<Option<Step>> = Vec::new();
        for (path, item) in items? {
            let (at, step) = match item {
                // A plain text is an app without further settings.
                Value::String(_) => (path.clone(), self.plain_choice(&path, item)),
                item => (path.key("app"), self.choice(&path, item)),
            };
            if let Some(step) = &step
                && to.iter().flatten().any(|before| before.app == step.app)
            {
                self.note(&at, "it is named twice; it would fail twice");
            }
            to.push(step);
        }
        let to: Option<Vec<Step>> = to.into_iter().collect();
        Some(Fallback { to: to? })
    }

    fn plain_choice(&mut self, path: &SettingPath, value: Value) -> Option<Step> {
        let app = self.target(path, value)?;
        Some(Step {
            name: app.to_string(),
            app,
            input: None,
            timeout: None,
        })
    }

    fn choice(&mut self, path: &SettingPath, value: Value) -> Option<Step> {
        let table = self.table(path, value)?;
        let name = table.get("app").and_then(Value::as_str);
        let name = name.unwrap_or_default().to_owned();
        self.step_called(path, table, Some(name), Beside::Nothing)
    }

    /// A step of either kind, but for its name.
    fn step_called(
        &mut self,
        path: &SettingPath,
        mut table: Table,
        name: Option<String>,
        beside: Beside<'_>,
    ) -> Option<Step> {
        let app = self
            .required(path, &mut table, "app", "an app or a route")
            .and_then(|app| self.target(&path.key("app"), app));
        let place = format!("step {}, input", name.as_deref().unwrap_or_default());
        let input = (table.remove("input"))
            .map(|input| self.template(&path.key("input"), input, place, beside));
        let timeout =
            (table.remove("timeout")).map(|time| self.some_time(&path.key("timeout"), &time));
        self.nothing_else(path, table);
        Some(Step {
            name: name?,
            app: app?,
            input: given(input)?,
            timeout: given(timeout)?,
        })
    }

    fn some_time(&mut self, path: &SettingPath, value: &Value) -> Option<Duration> {
        match DurationSetting::nonzero_from_toml(value) {
            Ok(time) => Some(time.duration()),
            Err(problem) => {
                self.note(path, problem);
                None
            }
        }
    }

    fn not_too_many(&mut self, path: &SettingPath, table: &Table, key: &str) {
        let steps = table.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        if steps > MAX_STEPS {
            let reason = format!("it has {steps} steps, {MAX_STEPS} are the most");
            self.note(&path.key(key), reason);
        }
    }

    /// `place`: location in the route, for errors.
    fn template(
        &mut self,
        path: &SettingPath,
        value: Value,
        place: String,
        beside: Beside<'_>,
    ) -> Option<Template> {
        let whole = self.part(path, value, beside, MAX_LEVELS);
        Some(Template {
            // A route without a name is not read in the end.
            route: self.name?.clone(),
            place,
            whole: whole?,
        })
    }

    fn part(
        &mut self,
        path: &SettingPath,
        value: Value,
        beside: Beside<'_>,
        levels_left: usize,
    ) -> Option<Part> {
        let Some(levels_left) = levels_left.checked_sub(1) else {
            let reason = format!("it is nested more than {MAX_LEVELS} levels deep");
            self.note(path, reason);
            return None;
        };
        match value {
            Value::String(_) => {
                let expression = self.expression(path, value, beside)?;
                Some(Part::Expression(Box::new(expression)))
            }
            Value::Integer(number) => Some(Part::Literal(number.into())),
            Value::Float(number) if number.is_finite() => Some(Part::Literal(number.into())),
            Value::Boolean(truth) => Some(Part::Literal(Json::Bool(truth))),
            Value::Float(_) | Value::Datetime(_) => {
                self.note(
                    path,
                    "JSON has no such value; a text is to be in CEL's quotes",
                );
                None
            }
            Value::Array(items) => {
                let items: Vec<Option<Part>> = (items.into_iter().enumerate())
                    .map(|(n, item)| self.part(&path.item(n), item, beside, levels_left))
                    .collect();
                let items: Option<Vec<Part>> = items.into_iter().collect();
                items.map(Part::List)
            }
            Value::Table(fields) => {
                let fields: Vec<Option<(String, Part)>> = fields
                    .into_iter()
                    .map(|(key, value)| {
                        let part = self.part(&path.key(&key), value, beside, levels_left);
                        part.map(|part| (key, part))
                    })
                    .collect();
                let fields: Option<BTreeMap<String, Part>> = fields.into_iter().collect();
                fields.map(Part::Table)
            }
        }
    }
}
