//! Conditions, keys and what templates hold, in CEL (the Common Expression Language). This is the
//! only module that knows the `cel` crate.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `review` | mistakes that the parser leaves to the evaluation, found in the syntax tree |
//! | `json` | JSON as values of CEL, and back |
//!
//! An expression is compiled once, when the configuration is read, and checked then: syntax,
//! unknown variables and functions, invalid regular expressions. Its cost is bounded by its form:
//! short, not deep, no nested loops, and inputs of a bounded number of values. Texts are not
//! copied.

mod json;
mod review;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::Expr;
use cel::common::value::Val;
use cel::{Context, Env, ExecutionError, Program, Value};
use serde_json::Value as Json;
use warmq_types::ids::AppId;
use warmq_types::text::shortened;

pub(crate) use self::json::Room;
use self::json::{Load, app_load, map, string};
use self::review::Findings;
use crate::request::RouteRequest;

/// The longest expression, bytes.
pub const MAX_EXPRESSION_BYTES: usize = 1_000;

/// The deepest expression, levels of its syntax tree: evaluation is recursive, and a thread's stack
/// ends.
pub const MAX_LEVELS: usize = 20;

/// The stack on which an expression is read, whose depth is not known before.
const READING_STACK_BYTES: usize = 128 << 20;

/// What is said when the `cel` crate panics.
const BROKE_DOWN: &str = "CEL broke down over it";

/// The most values (numbers, texts, lists, …) that the input of a submission to a route may hold,
/// if an expression looks at it; as many may the outputs of a flow's steps hold together, and what
/// a template gives.
pub const MAX_VALUES: usize = 10_000;

/// The most memory that a list may take that repeats what an expression sees for each item of
/// another, bytes, about.
const MAX_REPEATED_BYTES: usize = 256 << 20;

/// Maximum length of a reason, bytes: it may quote the input.
const MAX_REASON_CHARS: usize = 200;

static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// What an expression knows beside `input`, `headers` and `key`: it depends on where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Beside<'a> {
    /// How these apps stand: all of the file.
    Apps(&'a BTreeSet<AppId>),
    /// What these steps gave: the earlier ones.
    Steps(&'a [String]),
    /// Nothing more.
    Nothing,
}

impl Beside<'_> {
    fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Apps(_) => &["input", "headers", "key", "apps"],
            Self::Steps(_) => &["input", "headers", "key", "steps"],
            Self::Nothing => &["input", "headers", "key"],
        }
    }
}

/// The apps that an expression may look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AppsSeen {
    /// These.
    These(BTreeSet<AppId>),
    /// Any of the file: which ones depends on the submission.
    All,
}

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    source: String,
    program: Program,
    pub(crate) apps: AppsSeen,
    /// Whether it looks at what steps gave.
    pub(crate) sees_steps: bool,
    /// Whether what it sees may come into a list of its own many times over.
    multiplies: bool,
}

impl PartialEq for Expression {
    /// What is written the same is the same.
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// Why a text is no expression, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Bytes from the begin of the text.
    pub(crate) offset: usize,
    pub(crate) reason: String,
}

/// Why an expression has no value for a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The submission lacks a field or header that it asks for.
    Lacks(String),
    /// Its values do not fit.
    Wrong(String),
}

/// What expressions see of one submission.
pub(crate) struct Scene<'a> {
    context: Result<Context<'a, 'a>, Failure>,
    load: Load,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(request: &RouteRequest<'a>) -> Self {
        let (mut of_input, mut of_steps) = (Load::default(), Load::default());
        let context = Self::context(request, &mut of_input, &mut of_steps);
        let load = Load {
            values: of_input.values + of_steps.values,
            bytes: of_input.bytes + of_steps.bytes,
        };
        Self { context, load }
    }

    fn context(
        request: &RouteRequest<'a>,
        of_input: &mut Load,
        of_steps: &mut Load,
    ) -> Result<Context<'a, 'a>, Failure> {
        let too_many = |what: &str| {
            let reason = format!("{what} more than {MAX_VALUES} values, too many for a route");
            Failure::Wrong(reason)
        };
        let input = of_input.val(request.input);
        let input = input.ok_or_else(|| too_many("the input has"))?;
        let headers = request.headers.iter();
        let headers = headers.map(|(name, text)| (name.as_str(), string(text)));
        let apps = request.apps.iter();
        let apps = apps.map(|(name, app)| (name.as_str(), app_load(app)));
        let steps = request.steps.iter().map(|(name, output)| {
            let output = of_steps.val(output)?;
            let step = map([("output", output)].into_iter());
            Some((name.as_str(), step))
        });
        let steps: Option<Vec<_>> = steps.collect();
        let steps = steps.ok_or_else(|| too_many("the outputs of its steps have"))?;
        let mut context = Context::with_env(LANGUAGE.clone());
        context.add_variable_as_val("input", input);
        context.add_variable_as_val("headers", map(headers));
        context.add_variable_as_val("key", string(request.key));
        context.add_variable_as_val("apps", map(apps));
        context.add_variable_as_val("steps", map(steps.into_iter()));
        Ok(context)
    }
}

impl Expression {
    /// Compiles `source`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn compile(source: &str, beside: Beside<'_>) -> Result<Self, Vec<Mistake>> {
        let whole = |reason: String| vec![Mistake { offset: 0, reason }];
        if source.len() > MAX_EXPRESSION_BYTES {
            let length = source.len();
            return Err(whole(format!(
                "the expression has {length} bytes, the maximum is {MAX_EXPRESSION_BYTES}"
            )));
        }
        // A thread of its own: it may be as deep as it is long until its depth is known.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("reading an expression".to_owned())
                .stack_size(READING_STACK_BYTES);
            let reading = thread.spawn_scoped(scope, || Self::read(source, beside));
            match reading.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(read)) => read,
                Ok(Err(_)) => Err(whole(BROKE_DOWN.to_owned())),
                Err(error) => Err(whole(format!("there is no thread to read it: {error}"))),
            }
        })
    }

    fn read(source: &str, beside: Beside<'_>) -> Result<Self, Vec<Mistake>> {
        let program = LANGUAGE.compile(source).map_err(|errors| {
            let errors = errors.errors.iter();
            errors
                .map(|error| Mistake {
                    offset: offset(source, error.pos),
                    reason: format!("it is no CEL: {}", syntax_error(&error.msg)),
                })
                .collect::<Vec<_>>()
        })?;
        let found = Findings::of(&program, beside);
        match found.mistakes {
            mistakes if mistakes.is_empty() => Ok(Self {
                source: source.to_owned(),
                program,
                apps: found.apps,
                sees_steps: found.sees_steps,
                multiplies: found.multiplies,
            }),
            mistakes => Err(mistakes),
        }
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether a condition holds.
    pub(crate) fn holds(&self, scene: &Scene<'_>) -> Result<bool, Failure> {
        match self.value(scene)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(Failure::Wrong(format!(
                "a condition gives true or false, this one gives {}",
                kind(&other)
            ))),
        }
    }

    /// A key as text: texts as they are, numbers and truth values as JSON writes them. None if it
    /// is null or empty.
    pub(crate) fn text(&self, scene: &Scene<'_>) -> Result<Option<String>, Failure> {
        let text = match self.value(scene)? {
            Value::String(text) => text.to_string(),
            Value::Int(number) => number.to_string(),
            Value::UInt(number) => number.to_string(),
            Value::Float(number) => Json::from(number).to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Null => String::new(),
            other => {
                return Err(Failure::Wrong(format!(
                    "a text, a number or a truth value is expected, it gives {}",
                    kind(&other)
                )));
            }
        };
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// What it gives as JSON; none if that is `optional.none()`.
    pub(crate) fn json(&self, scene: &Scene<'_>, room: &mut Room) -> Result<Option<Json>, Failure> {
        self.evaluate(scene, |value| room.json(value).map_err(Failure::Wrong))
    }

    fn value(&self, scene: &Scene<'_>) -> Result<Value, Failure> {
        self.evaluate(scene, |value| Value::try_from(value).map_err(failure))
    }

    /// Its value as `read` takes it: one that borrows is not copied before.
    fn evaluate<T>(
        &self,
        scene: &Scene<'_>,
        read: impl FnOnce(&dyn Val) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let context = scene.context.as_ref().map_err(Clone::clone)?;
        let Load { values, bytes } = scene.load;
        if self.multiplies && values.saturating_mul(bytes) > MAX_REPEATED_BYTES {
            let reason =
                "it repeats what it sees for each item of a list, and there is too much of it";
            return Err(Failure::Wrong(reason.to_owned()));
        }
        let value = fenced(|| {
            let value = Value::resolve_val(self.program.expression(), context);
            read(value.map_err(failure)?.as_ref())
        });
        value.map_err(Failure::Wrong)?
    }
}

/// Whether `steps.name` is CEL and means a step: no word that CEL keeps for itself.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(plain)
        && LANGUAGE.compile(text).is_ok_and(
            |program| matches!(&program.expression().expr, Expr::Ident(name) if name == text),
        )
}

fn failure(error: ExecutionError) -> Failure {
    match error {
        ExecutionError::NoSuchKey(key) => Failure::Lacks(format!("'{}'", truncated(&key))),
        ExecutionError::IndexOutOfBounds(_) => Failure::Lacks("so many items in a list".to_owned()),
        other => Failure::Wrong(truncated(&other.to_string())),
    }
}

/// Evaluates. Expressions are ours, but their values are strangers': should the crate panic over
/// some, that submission fails and nothing else.
fn fenced<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| BROKE_DOWN.to_owned())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::String(_) => "a text",
        Value::List(_) => "a list",
        Value::Map(_) => "an object",
        _ => "something else",
    }
}

/// Bytes before a position: line and column (characters), both from 1.
fn offset(source: &str, (line, column): (isize, isize)) -> usize {
    let (Ok(line), Ok(column)) = (usize::try_from(line), usize::try_from(column)) else {
        return 0;
    };
    let before = source.split_inclusive('\n').take(line.saturating_sub(1));
    let start: usize = before.map(str::len).sum();
    let rest = source.get(start..).unwrap_or_default();
    let within: usize = rest
        .chars()
        .take(column.saturating_sub(1))
        .map(char::len_utf8)
        .sum();
    start + within
}

/// The parser's message without what it had expected instead: that is half of the language.
fn syntax_error(message: &str) -> String {
    let message = message.trim_start_matches("Syntax error: ");
    truncated(message.split(" expecting {").next().unwrap_or(message))
}

/// Truncates a reason.
fn truncated(reason: &str) -> String {
    shortened(reason.to_owned(), MAX_REASON_CHARS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::request::{AppLoadEstimate, Draw};

    /// The apps of the file.
    pub(super) fn apps() -> BTreeSet<AppId> {
        let names = ["a/one", "a/two"].into_iter();
        names.map(|name| AppId::parse(name).unwrap()).collect()
    }

    /// A condition.
    pub(super) fn compile(source: &str) -> Result<Expression, Vec<Mistake>> {
        Expression::compile(source, Beside::Apps(&apps()))
    }

    /// A submission with this input and nothing else.
    fn bare(input: &Json) -> RouteRequest<'_> {
        static HEADERS: BTreeMap<String, String> = BTreeMap::new();
        static APPS: BTreeMap<AppId, AppLoadEstimate> = BTreeMap::new();
        static STEPS: BTreeMap<String, Json> = BTreeMap::new();
        RouteRequest {
            input,
            headers: &HEADERS,
            key: "",
            apps: &APPS,
            steps: &STEPS,
            draw: Draw::Job(""),
        }
    }

    pub(super) fn evaluate(
        source: &str,
        input: &Json,
        headers: &[(&str, &str)],
    ) -> Result<Value, Failure> {
        let headers: BTreeMap<String, String> = headers
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        let request = RouteRequest {
            headers: &headers,
            key: "team-a",
            ..bare(input)
        };
        let expression = compile(source).unwrap();
        expression.value(&Scene::new(&request))
    }

    fn holds(source: &str, input: Json) -> bool {
        evaluate(source, &input, &[("x-plan", "pro")]) == Ok(Value::Bool(true))
    }

    #[test]
    fn input_headers_and_key_are_seen() {
        let input = || json!({"width": 1024, "height": 1024, "model": "shapes", "loras": [{"name": "a"}], "scale": 1.5});
        for condition in [
            "input.width * input.height <= 1048576",
            "input.model == 'shapes' && input.model in ['shapes', 'digits']",
            "headers['x-plan'] == 'pro'",
            "key.startsWith('team-')",
            "has(input.model) && !has(input.steps)",
            "input.?steps.orValue(20) == 20",
            "input.loras.exists(lora, lora.name == 'a') && size(input.loras) == 1",
            "input.model.matches('^sh.pes$')",
            "input.scale > 1 && double(input.width) * input.scale == 1536.0",
            "input.width < 18446744073709551615u",
        ] {
            assert!(holds(condition, input()), "{condition}");
        }
    }

    #[test]
    fn how_apps_stand_is_seen_and_numbers_of_both_kinds_compare() {
        let one = AppLoadEstimate {
            cost: 0.5,
            wait_s: f64::INFINITY,
            run_s: 2.0,
            runners: 3,
            idle: 0,
            queued: 7,
        };
        let app = |name| AppId::parse(name).unwrap();
        let two = AppLoadEstimate {
            cost: 2.0,
            wait_s: 0.0,
            ..one
        };
        let apps = BTreeMap::from([(app("a/one"), one), (app("a/two"), two)]);
        let input = json!({"budget": 1, "app": "a/two", "in_s": 4.5});
        let request = RouteRequest {
            apps: &apps,
            ..bare(&input)
        };
        let scene = Scene::new(&request);
        let holds = |source: &str| compile(source).unwrap().holds(&scene);
        for condition in [
            "apps['a/one'].cost < 1",
            "apps['a/one'].cost <= input.budget && apps['a/two'].cost > input.budget",
            "apps['a/two'].cost == 2",
            "apps['a/two'].wait_s < 1 && apps['a/one'].wait_s > 1000000",
            "apps['a/two'].wait_s + apps['a/two'].run_s <= double(input.in_s)",
            "apps['a/one'].idle == 0 && apps['a/one'].queued > 2 * apps['a/one'].runners",
            "apps[input.app].wait_s == 0.0",
            "apps.all(app, apps[app].run_s == 2.0)",
        ] {
            assert_eq!(holds(condition), Ok(true), "{condition}");
        }
        assert_eq!(
            holds("apps[input.budget == 1 ? 'b/none' : 'a/one'].idle > 0"),
            Err(Failure::Lacks("'b/none'".to_owned()))
        );
    }

    #[test]
    fn names_are_valid_after_a_dot() {
        for name in ["draw", "_", "Draw_2", "output"] {
            assert!(is_name(name), "{name}");
            assert!(compile(&format!("input.{name} == 1")).is_ok(), "{name}");
        }
        for none in [
            "", "2nd", "a-b", "a.b", "größe", "in", "true", "null", "for", "as", " a", "a()",
        ] {
            assert!(!is_name(none), "{none}");
        }
    }

    #[test]
    fn absent_values_and_wrong_values_have_different_errors() {
        let value = |source, input| evaluate(source, &input, &[]);
        let lacks = |name: &str| Err(Failure::Lacks(name.to_owned()));
        assert_eq!(value("input.width > 1", json!({})), lacks("'width'"));
        assert_eq!(
            value("headers['x-plan'] == 'a'", json!({})),
            lacks("'x-plan'")
        );
        assert!(matches!(
            value("input.a[0] > 1", json!({"a": []})),
            Err(Failure::Lacks(_))
        ));
        for (source, input) in [
            ("input.width * 2 > 1", json!({"width": "wide"})),
            ("input.width * input.width > 1", json!({"width": i64::MAX})),
            ("input.width > 1", json!("no object")),
            ("1 / input.width > 1", json!({"width": 0})),
        ] {
            let failure = value(source, input).unwrap_err();
            assert!(
                matches!(failure, Failure::Wrong(_)),
                "{source}: {failure:?}"
            );
        }
    }

    #[test]
    fn a_condition_gives_true_or_false_and_a_key_a_text() {
        let input = json!({"id": 7, "f": 0.5, "t": "a", "n": null, "e": ""});
        let scene = Scene::new(&bare(&input));
        let text = |source: &str| compile(source).unwrap().text(&scene);
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(text("input.id"), some("7"));
        assert_eq!(text("input.f"), some("0.5"));
        assert_eq!(text("input.t + '-' + string(input.id)"), some("a-7"));
        assert_eq!(text("input.id == 7"), some("true"));
        assert_eq!(
            [text("input.n"), text("input.e"), text("key")],
            [Ok(None), Ok(None), Ok(None)]
        );
        assert!(text("input").is_err());
        assert!(compile("input.id").unwrap().holds(&scene).is_err());
    }

    #[test]
    fn the_deepest_expressions_fit_the_stack_of_a_small_thread() {
        let deep = |open: &str, middle: &str, close: &str| {
            let n = (MAX_EXPRESSION_BYTES - middle.len()) / (open.len() + close.len());
            format!("{}{middle}{}", open.repeat(n), close.repeat(n))
        };
        let deepest = [
            deep("1+", "1", ""),
            deep("!", "true", ""),
            deep("-", "1", ""),
            deep("(", "1", ")"),
            deep("[", "1", "]"),
            deep("", "input", ".a"),
            deep("", "input", "[0]"),
            deep("{1:", "1", "}"),
            deep("true?1:", "1", ""),
            deep("true&&", "true", ""),
        ];
        // Half of what a thread of the router has.
        let thread = std::thread::Builder::new()
            .name("evaluating".to_owned())
            .stack_size(1024 * 1024);
        let done = thread.spawn(move || {
            for source in deepest {
                let input = json!({});
                // It may be refused, or fail; it returns.
                if let Ok(expression) = compile(&source) {
                    let _ = expression.value(&Scene::new(&bare(&input)));
                }
            }
            for allowed in [
                format!(
                    "{}1{} == []",
                    "[".repeat(MAX_LEVELS - 3),
                    "]".repeat(MAX_LEVELS - 3)
                ),
                format!("input{} == 1", ".a".repeat(MAX_LEVELS - 3)),
                format!("input{} == 1", "[0]".repeat(MAX_LEVELS - 3)),
                format!("{}1 == 1", "true?true:".repeat(MAX_LEVELS - 3)),
            ] {
                let input = json!({});
                let expression = compile(&allowed).unwrap();
                let _ = expression.value(&Scene::new(&bare(&input)));
            }
            let sum = |terms: usize| compile(&vec!["1"; terms].join("+"));
            assert!(sum(MAX_LEVELS).is_ok());
            let mistakes = sum(MAX_LEVELS + 1).unwrap_err();
            assert!(mistakes[0].reason.contains("levels"), "{mistakes:?}");
        });
        done.unwrap().join().unwrap();
    }
}
