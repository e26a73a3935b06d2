//! Templates of steps' inputs and flows' outputs. Texts are expressions, other values are literals.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use warmq_config::SettingPath;
use warmq_types::ids::AppId;

use crate::evaluation_error::{Error, EvaluationError};
use crate::expression::{Expression, Failure, OutputLimits, Variables};

/// A compiled template.
#[derive(Debug, PartialEq)]
pub struct Template {
    /// Route of the template.
    pub(crate) route: AppId,
    /// Location in the route, for errors: `step upscale, input`.
    pub(crate) place: String,
    pub(crate) whole: Node,
}

/// A template or a part of one.
#[derive(Debug, PartialEq)]
pub(crate) enum Node {
    Expression(Box<Expression>),
    /// A number or a boolean.
    Literal(Json),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Template {
    /// Evaluates the template. Values `optional.none()` are omitted from their tables and lists.
    ///
    /// # Errors
    /// An expression has no value, or none in JSON; or the result is too large.
    pub(crate) fn fill(&self, variables: &Variables<'_>) -> Result<Json, Error> {
        let filled = self.whole.fill(variables, &mut OutputLimits::default());
        let filled = filled.and_then(|value| {
            value.ok_or_else(|| match &self.whole {
                Node::Expression(whole) => {
                    EvaluationError::with(whole, "the expression has no value".to_owned())
                }
                _ => "the expression has no value".to_owned().into(),
            })
        });
        filled.map_err(|error| Error {
            route: self.route.clone(),
            place: self.place.clone() + &error.place,
            expression: error.expression,
            reason: error.reason,
        })
    }

    /// Returns the template as declared, with expressions as texts.
    pub fn written(&self) -> Json {
        self.whole.written()
    }

    /// Returns whether it reads the outputs of earlier steps.
    pub fn reads_steps(&self) -> bool {
        self.whole.reads_steps()
    }
}

impl Node {
    /// Evaluates a part; `None` if it is omitted. The place of an error begins at this part.
    fn fill(
        &self,
        variables: &Variables<'_>,
        limits: &mut OutputLimits,
    ) -> Result<Option<Json>, EvaluationError> {
        match self {
            Self::Expression(expression) => {
                let value = expression.json(variables, limits);
                value.map_err(|failure| {
                    let reason = match failure {
                        Failure::Missing(what) => format!("{what} is absent"),
                        Failure::Invalid(reason) => reason,
                    };
                    EvaluationError::with(expression, reason)
                })
            }
            Self::Literal(value) => {
                limits.take(0)?;
                Ok(Some(value.clone()))
            }
            Self::List(parts) => {
                limits.take(0)?;
                let list = limits.deeper(|limits| {
                    let items = parts.iter().enumerate().map(|(n, part)| {
                        let item = part.fill(variables, limits);
                        item.map_err(|error| error.within(&format!("[{n}]")))
                    });
                    items
                        .filter_map(Result::transpose)
                        .collect::<Result<_, EvaluationError>>()
                });
                Ok(Some(Json::Array(list?)))
            }
            Self::Table(parts) => {
                limits.take(0)?;
                let table = limits.deeper(|limits| {
                    let mut table = Map::new();
                    for (key, part) in parts {
                        let value = part.fill(variables, limits);
                        let value = value
                            .map_err(|error| error.within(&format!(".{}", SettingPath::of(key))))?;
                        table.extend(value.map(|value| (key.clone(), value)));
                    }
                    Ok::<_, EvaluationError>(table)
                });
                Ok(Some(Json::Object(table?)))
            }
        }
    }

    fn written(&self) -> Json {
        match self {
            Self::Expression(expression) => expression.source().into(),
            Self::Literal(value) => value.clone(),
            Self::List(parts) => parts.iter().map(Self::written).collect(),
            Self::Table(parts) => {
                let parts = parts.iter();
                let parts = parts.map(|(key, part)| (key.clone(), part.written()));
                Json::Object(parts.collect())
            }
        }
    }

    fn reads_steps(&self) -> bool {
        match self {
            Self::Expression(expression) => expression.reads_steps,
            Self::Literal(_) => false,
            Self::List(parts) => parts.iter().any(Self::reads_steps),
            Self::Table(parts) => parts.values().any(Self::reads_steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use warmq_config::{Apps, Settings};

    use super::*;
    use crate::{Draw, MAX_VALUES, RouteRequest, Routes};

    /// Evaluates the template `written` (TOML) as the input of a second step.
    fn filled(written: &str, input: &Json, first: Json) -> Result<Json, String> {
        let text = format!(
            "[apps.'a/b']\n[routes.'r/s']\nkind = 'sequence'\nsteps = [\n{{ name = 'first', app = 'a/b' }},\n\
             {{ name = 'second', app = 'a/b', input = {written} }}\n]"
        );
        let mut settings = Settings::from_toml(&text, "warmq.toml");
        let apps = Apps::read(&mut settings);
        let routes = Routes::read(&mut settings, &apps);
        let routes = settings.finish(Some(routes)).unwrap();
        let flow = routes.flow(&AppId::parse("r/s").unwrap()).unwrap();
        let request = RouteRequest {
            input,
            headers: &BTreeMap::from([("x-plan".to_owned(), "pro".to_owned())]),
            key: "team-a",
            apps: &BTreeMap::new(),
            steps: &BTreeMap::from([("first".to_owned(), first)]),
            draw: Draw::Job(""),
        };
        let input = flow.steps[1].input(&request);
        input.map_err(|error| error.to_string())
    }

    #[test]
    fn texts_are_expressions_and_other_values_are_literals() {
        let written = r#"{
            url = "steps.first.output.images[0].url", factor = 2, strength = 0.5, safe = true,
            format = "'png'", size = { width = "input.width * 2", list = ["key", 7, ["headers['x-plan']"]] },
            "odd key" = "null", all = "input"
        }"#;
        let input = json!({"width": 8, "half": 0.5, "many": u64::MAX});
        let first = json!({"images": [{"url": "u"}]});
        assert_eq!(
            filled(written, &input, first).unwrap(),
            json!({
                "url": "u", "factor": 2, "strength": 0.5, "safe": true, "format": "png",
                "size": {"width": 16, "list": ["team-a", 7, ["pro"]]}, "odd key": null, "all": input
            })
        );
        // One text alone gives the whole.
        let whole = filled("'steps.first.output'", &json!({}), json!([1, "a", null]));
        assert_eq!(whole.unwrap(), json!([1, "a", null]));
    }

    #[test]
    fn absent_optional_values_are_omitted() {
        let written = r#"{
            seed = "input.?seed", steps = "input.?steps", list = ["input.?seed", "input.?steps"],
            inner = "{'seed': input.?seed, 'steps': input.?steps}", none = "optional.none()", seven = "optional.of(7)"
        }"#;
        assert_eq!(
            filled(written, &json!({"steps": 4}), json!({})).unwrap(),
            json!({"steps": 4, "list": [4], "inner": {"steps": 4}, "seven": 7})
        );
        let nothing = filled("'input.?seed'", &json!({}), json!({})).unwrap_err();
        assert_eq!(
            nothing,
            "route r/s, step second, input (input.?seed): the expression has no value"
        );
    }

    #[test]
    fn values_without_json_are_refused_with_their_place() {
        let refused = |written: &str, input: Json| filled(written, &input, json!({})).unwrap_err();
        assert_eq!(
            refused("{ a = [{ b = 'input.width' }] }", json!({})),
            "route r/s, step second, input.a[0].b (input.width): 'width' is absent"
        );
        for (written, what) in [
            ("{ a = '1.0 / 0.0' }", "inf is not a JSON number"),
            ("{ a = \"b'xy'\" }", "type bytes has no JSON"),
            ("{ a = 'type(1)' }", "has no JSON representation"),
            ("{ a = '{1: 2}' }", "key is not a string"),
            ("{ a = 'input.wide * 2' }", "(input.wide * 2): "),
        ] {
            let message = refused(written, json!({"wide": "w"}));
            assert!(
                message.starts_with("route r/s, step second, input.a ("),
                "{message}"
            );
            assert!(message.contains(what), "{message}");
        }
    }

    #[test]
    fn the_size_of_a_result_is_bounded() {
        let refused = |written: &str, input: Json| filled(written, &input, json!({})).unwrap_err();
        let many = json!(vec![0; MAX_VALUES / 2]);
        let twice = filled("{ a = 'input', b = 'input' }", &many, json!({}));
        assert!(twice.unwrap_err().contains("more than 10000 values"));
        assert!(refused("'[input, input]'", many.clone()).contains("more than 10000 values"));
        let text = json!("x".repeat(1 << 20));
        let times = vec!["'input'"; 65].join(",");
        assert!(refused(&format!("[{times}]"), text).contains("more than 64 MiB"));
        // Intermediate results are bounded, too.
        let squared = "{ a = 'size(input.map(x, [input]))' }";
        assert!(refused(squared, many.clone()).contains("too much memory"));
        let filtered = "{ a = 'size(input.filter(x, x == size(input)).map(x, [x]))' }";
        assert_eq!(filled(filtered, &many, json!({})), Ok(json!({"a": 0})));
        let few = "'input.list.map(x, {\"x\": x, \"seed\": input.seed})'";
        assert_eq!(
            filled(few, &json!({"list": [1, 2], "seed": 7}), json!({})),
            Ok(json!([{"x": 1, "seed": 7}, {"x": 2, "seed": 7}]))
        );
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        assert_eq!(filled("'input'", &deep, json!({})), Ok(deep.clone()));
        assert!(refused("['input']", deep).contains("more than 100 levels"));
    }
}
