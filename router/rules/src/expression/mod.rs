//! Conditions, keys and templates in CEL (the Common Expression Language). Only this module uses
//! the `cel` crate.
//!
//! | module | contents |
//! | --- | --- |
//! | `review` | finds in the syntax tree the mistakes that the parser accepts |
//! | `json` | converts JSON to CEL values and back |
//!
//! An expression is compiled and checked once, when the configuration is loaded: syntax, unknown
//! variables and functions, invalid regular expressions. Its cost is bounded: by its length, its
//! depth, the absence of nested loops, and the number of values in the input. Texts are not copied.

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

pub(crate) use self::json::OutputLimits;
use self::json::{ValueSize, app_load, map, string};
use self::review::Findings;
use crate::request::RouteRequest;

/// Maximum length of an expression, bytes.
pub const MAX_EXPRESSION_BYTES: usize = 1_000;

/// Maximum depth of an expression's syntax tree: evaluation is recursive, and the stack is bounded.
pub const MAX_LEVELS: usize = 20;

/// Stack size of the thread that compiles an expression, whose depth is not known yet.
const COMPILE_STACK_BYTES: usize = 128 << 20;

/// Reason if the `cel` crate panics.
const PANICKED: &str = "the CEL library panicked";

/// Maximum number of values (numbers, texts, lists, …) in the input of a submission to a route, if
/// an expression reads it; also in the outputs of a flow's steps together, and in the result of a
/// template.
pub const MAX_VALUES: usize = 10_000;

/// Approximate maximum memory of a list that repeats the variables for each item of another list,
/// bytes.
const MAX_REPEATED_BYTES: usize = 256 << 20;

/// Maximum length of a reason, bytes: it may quote the input.
const MAX_REASON_CHARS: usize = 200;

static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Variables of an expression besides `input`, `headers` and `key`, depending on its location.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ExtraVariables<'a> {
    /// `apps`: the load of the file's apps.
    Apps(&'a BTreeSet<AppId>),
    /// `steps`: the outputs of these earlier steps.
    Steps(&'a [String]),
    None,
}

impl ExtraVariables<'_> {
    /// Returns the names of all variables.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Apps(_) => &["input", "headers", "key", "apps"],
            Self::Steps(_) => &["input", "headers", "key", "steps"],
            Self::None => &["input", "headers", "key"],
        }
    }
}

/// Apps that an expression may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AppsRead {
    Named(BTreeSet<AppId>),
    /// Any of the file, depending on the submission.
    All,
}

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    source: String,
    program: Program,
    pub(crate) apps: AppsRead,
    /// Whether it reads the outputs of steps.
    pub(crate) reads_steps: bool,
    /// Whether it may build a list that repeats its variables.
    multiplies: bool,
}

impl PartialEq for Expression {
    /// Compares the sources.
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// A mistake in an expression, with its location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Offset from the begin of the text, bytes.
    pub(crate) offset: usize,
    pub(crate) reason: String,
}

/// Why an expression has no value for a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It reads a field, header or item that is absent.
    Missing(String),
    /// Its values are invalid for the operation.
    Invalid(String),
}

/// Values of the variables for one submission.
pub(crate) struct Variables<'a> {
    context: Result<Context<'a, 'a>, Failure>,
    size: ValueSize,
}

impl<'a> Variables<'a> {
    pub(crate) fn new(request: &RouteRequest<'a>) -> Self {
        let (mut of_input, mut of_steps) = (ValueSize::default(), ValueSize::default());
        let context = Self::context(request, &mut of_input, &mut of_steps);
        let size = ValueSize {
            values: of_input.values + of_steps.values,
            bytes: of_input.bytes + of_steps.bytes,
        };
        Self { context, size }
    }

    fn context(
        request: &RouteRequest<'a>,
        of_input: &mut ValueSize,
        of_steps: &mut ValueSize,
    ) -> Result<Context<'a, 'a>, Failure> {
        let too_many = |what: &str| {
            let reason = format!("{what} more than {MAX_VALUES} values, the limit of routes");
            Failure::Invalid(reason)
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
    /// All mistakes in it.
    pub(crate) fn compile(source: &str, extra: ExtraVariables<'_>) -> Result<Self, Vec<Mistake>> {
        let whole = |reason: String| vec![Mistake { offset: 0, reason }];
        if source.len() > MAX_EXPRESSION_BYTES {
            let length = source.len();
            return Err(whole(format!(
                "the expression has {length} bytes, more than the limit of {MAX_EXPRESSION_BYTES}"
            )));
        }
        // A separate thread: until its depth is known, it may be as deep as it is long.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("compiling an expression".to_owned())
                .stack_size(COMPILE_STACK_BYTES);
            let compiling = thread.spawn_scoped(scope, || Self::compile_here(source, extra));
            match compiling.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(compiled)) => compiled,
                Ok(Err(_)) => Err(whole(PANICKED.to_owned())),
                Err(error) => Err(whole(format!(
                    "cannot start a thread to compile it: {error}"
                ))),
            }
        })
    }

    fn compile_here(source: &str, extra: ExtraVariables<'_>) -> Result<Self, Vec<Mistake>> {
        let program = LANGUAGE.compile(source).map_err(|errors| {
            let errors = errors.errors.iter();
            errors
                .map(|error| Mistake {
                    offset: offset(source, error.pos),
                    reason: format!("invalid CEL: {}", syntax_error(&error.msg)),
                })
                .collect::<Vec<_>>()
        })?;
        let found = Findings::of(&program, extra);
        match found.mistakes {
            mistakes if mistakes.is_empty() => Ok(Self {
                source: source.to_owned(),
                program,
                apps: found.apps,
                reads_steps: found.reads_steps,
                multiplies: found.multiplies,
            }),
            mistakes => Err(mistakes),
        }
    }

    /// Returns the source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Evaluates a condition.
    pub(crate) fn holds(&self, variables: &Variables<'_>) -> Result<bool, Failure> {
        match self.value(variables)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(Failure::Invalid(format!(
                "expected a boolean, got {}",
                kind(&other)
            ))),
        }
    }

    /// Evaluates a key as text: numbers and booleans as in JSON. `None` if it is null or empty.
    pub(crate) fn text(&self, variables: &Variables<'_>) -> Result<Option<String>, Failure> {
        let text = match self.value(variables)? {
            Value::String(text) => text.to_string(),
            Value::Int(number) => number.to_string(),
            Value::UInt(number) => number.to_string(),
            Value::Float(number) => Json::from(number).to_string(),
            Value::Bool(boolean) => boolean.to_string(),
            Value::Null => String::new(),
            other => {
                return Err(Failure::Invalid(format!(
                    "expected text, a number or a boolean, got {}",
                    kind(&other)
                )));
            }
        };
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// Evaluates it as JSON; `None` for `optional.none()`.
    pub(crate) fn json(
        &self,
        variables: &Variables<'_>,
        limits: &mut OutputLimits,
    ) -> Result<Option<Json>, Failure> {
        self.evaluate(variables, |value| {
            limits.json(value).map_err(Failure::Invalid)
        })
    }

    fn value(&self, variables: &Variables<'_>) -> Result<Value, Failure> {
        self.evaluate(variables, |value| Value::try_from(value).map_err(failure))
    }

    /// Evaluates it and converts the value by `read`; a borrowed value is not copied before.
    fn evaluate<T>(
        &self,
        variables: &Variables<'_>,
        read: impl FnOnce(&dyn Val) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let context = variables.context.as_ref().map_err(Clone::clone)?;
        let ValueSize { values, bytes } = variables.size;
        if self.multiplies && values.saturating_mul(bytes) > MAX_REPEATED_BYTES {
            let reason = "it repeats its variables for each item of a list, which could take too much memory";
            return Err(Failure::Invalid(reason.to_owned()));
        }
        let value = catch_panic(|| {
            let value = Value::resolve_val(self.program.expression(), context);
            read(value.map_err(failure)?.as_ref())
        });
        value.map_err(Failure::Invalid)?
    }
}

/// Returns whether `text` is a valid name in CEL, so not a keyword.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(plain)
        && LANGUAGE.compile(text).is_ok_and(
            |program| matches!(&program.expression().expr, Expr::Ident(name) if name == text),
        )
}

fn failure(error: ExecutionError) -> Failure {
    match error {
        ExecutionError::NoSuchKey(key) => Failure::Missing(format!("'{}'", truncated(&key))),
        ExecutionError::IndexOutOfBounds(_) => Failure::Missing("the list item".to_owned()),
        other => Failure::Invalid(truncated(&other.to_string())),
    }
}

/// Calls `call`. The values of expressions come from submitters: if the crate panics over them,
/// only that submission fails.
fn catch_panic<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| PANICKED.to_owned())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::String(_) => "text",
        Value::List(_) => "a list",
        Value::Map(_) => "an object",
        _ => "another type",
    }
}

/// Returns the offset (bytes) of a position: line and column (characters), both from 1.
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

/// Returns the parser's message without the list of expected tokens, which is long.
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

    /// Returns the apps of the file.
    pub(super) fn apps() -> BTreeSet<AppId> {
        let names = ["a/one", "a/two"].into_iter();
        names.map(|name| AppId::parse(name).unwrap()).collect()
    }

    /// Compiles a condition.
    pub(super) fn compile(source: &str) -> Result<Expression, Vec<Mistake>> {
        Expression::compile(source, ExtraVariables::Apps(&apps()))
    }

    /// Returns a submission with this input and nothing else.
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
        expression.value(&Variables::new(&request))
    }

    fn holds(source: &str, input: Json) -> bool {
        evaluate(source, &input, &[("x-plan", "pro")]) == Ok(Value::Bool(true))
    }

    #[test]
    fn input_headers_and_key_are_readable() {
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
    fn the_load_of_apps_is_readable_and_both_number_types_compare() {
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
        let variables = Variables::new(&request);
        let holds = |source: &str| compile(source).unwrap().holds(&variables);
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
            Err(Failure::Missing("'b/none'".to_owned()))
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
        let missing = |name: &str| Err(Failure::Missing(name.to_owned()));
        assert_eq!(value("input.width > 1", json!({})), missing("'width'"));
        assert_eq!(
            value("headers['x-plan'] == 'a'", json!({})),
            missing("'x-plan'")
        );
        assert!(matches!(
            value("input.a[0] > 1", json!({"a": []})),
            Err(Failure::Missing(_))
        ));
        for (source, input) in [
            ("input.width * 2 > 1", json!({"width": "wide"})),
            ("input.width * input.width > 1", json!({"width": i64::MAX})),
            ("input.width > 1", json!("no object")),
            ("1 / input.width > 1", json!({"width": 0})),
        ] {
            let failure = value(source, input).unwrap_err();
            assert!(
                matches!(failure, Failure::Invalid(_)),
                "{source}: {failure:?}"
            );
        }
    }

    #[test]
    fn a_condition_is_a_boolean_and_a_key_is_text() {
        let input = json!({"id": 7, "f": 0.5, "t": "a", "n": null, "e": ""});
        let variables = Variables::new(&bare(&input));
        let text = |source: &str| compile(source).unwrap().text(&variables);
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
        assert!(compile("input.id").unwrap().holds(&variables).is_err());
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
        // Half the stack of a router's thread.
        let thread = std::thread::Builder::new()
            .name("evaluating".to_owned())
            .stack_size(1024 * 1024);
        let done = thread.spawn(move || {
            for source in deepest {
                let input = json!({});
                // It may be refused, or fail; it returns.
                if let Ok(expression) = compile(&source) {
                    let _ = expression.value(&Variables::new(&bare(&input)));
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
                let _ = expression.value(&Variables::new(&bare(&input)));
            }
            let sum = |terms: usize| compile(&vec!["1"; terms].join("+"));
            assert!(sum(MAX_LEVELS).is_ok());
            let mistakes = sum(MAX_LEVELS + 1).unwrap_err();
            assert!(mistakes[0].reason.contains("levels"), "{mistakes:?}");
        });
        done.unwrap().join().unwrap();
    }
}
