//! Finds in the syntax tree the mistakes that the parser accepts, and the variables that an
//! expression reads.

use std::collections::BTreeSet;

use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::{Context, ExecutionError, Program};
use warmq_types::ids::AppId;

use super::json::{APP_FIELDS, string};
use super::{AppsRead, ExtraVariables, LANGUAGE, MAX_LEVELS, Mistake, truncated};

/// Result of a review.
pub(super) struct Findings {
    pub(super) mistakes: Vec<Mistake>,
    /// Apps that it may read.
    pub(super) apps: AppsRead,
    /// Whether it reads the outputs of steps.
    pub(super) reads_steps: bool,
    /// Whether a list that it builds may repeat a variable for each item of another list.
    pub(super) multiplies: bool,
}

impl Findings {
    /// Reviews a program with the variables of its location.
    pub(super) fn of(program: &Program, extra: ExtraVariables<'_>) -> Self {
        let mut review = Review {
            program,
            extra,
            loops: Vec::new(),
            item: None,
            in_item: false,
            levels: 0,
            findings: Self {
                mistakes: Vec::new(),
                apps: AppsRead::Named(BTreeSet::new()),
                reads_steps: false,
                multiplies: false,
            },
        };
        review.visit(program.expression());
        review.findings
    }
}

struct Review<'p> {
    program: &'p Program,
    extra: ExtraVariables<'p>,
    /// Variables of the loops around the current expression, the innermost last.
    loops: Vec<Vec<&'p str>>,
    /// Id of the expression that the innermost loop adds to its list for each item.
    item: Option<u64>,
    /// Whether the current expression is part of such an item.
    in_item: bool,
    /// Levels above the current expression.
    levels: usize,
    findings: Findings,
}

impl<'p> Review<'p> {
    fn visit(&mut self, expression: &'p IdedExpr) {
        if self.levels == MAX_LEVELS {
            let reason = format!("nested more than {MAX_LEVELS} levels deep");
            return self.note(expression, reason);
        }
        let outer = self.in_item;
        self.in_item |= self.item == Some(expression.id);
        self.levels += 1;
        match Member::of(expression) {
            Some(member) => self.visit_member(expression, &member),
            None => self.visit_plain(expression),
        }
        self.levels -= 1;
        self.in_item = outer;
    }

    fn visit_plain(&mut self, expression: &'p IdedExpr) {
        match &expression.expr {
            Expr::Ident(name) => self.visit_variable(expression, name),
            Expr::Call(call) => {
                call.args.iter().for_each(|argument| self.visit(argument));
                match &call.target {
                    Some(target) if is_optional(target) => {
                        if !function_exists(&format!("optional.{}()", call.func_name)) {
                            let name = &call.func_name;
                            self.note(expression, format!("unknown function 'optional.{name}'"));
                        }
                    }
                    target => {
                        target.iter().for_each(|target| self.visit(target));
                        if call.func_name.starts_with(|c: char| c.is_alphabetic()) {
                            self.visit_function(expression, &call.func_name, &call.args);
                        }
                    }
                }
            }
            Expr::List(list) => list.elements.iter().for_each(|item| self.visit(item)),
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.visit(&entry.key);
                        self.visit(&entry.value);
                    }
                }
            }
            Expr::Comprehension(each) => self.visit_loop(expression, each),
            Expr::Struct(made) => {
                self.note(expression, format!("unknown type '{}'", made.type_name));
            }
            Expr::Select(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn visit_loop(&mut self, expression: &'p IdedExpr, each: &'p ComprehensionExpr) {
        self.visit(&each.iter_range);
        self.visit(&each.accu_init);
        self.reject_in_loop(expression);
        let variables = [
            Some(&each.iter_var),
            each.iter_var2.as_ref(),
            Some(&each.accu_var),
        ];
        let variables = variables.into_iter().flatten().map(String::as_str);
        self.loops.push(variables.collect());
        self.item = added_item(each);
        for part in [&each.loop_cond, &each.loop_step, &each.result] {
            self.visit(part);
        }
        self.item = None;
        self.loops.pop();
    }

    fn visit_variable(&mut self, expression: &IdedExpr, name: &str) {
        if self.is_loop_variable(name) {
            return;
        }
        let variables = self.extra.names();
        if !variables.contains(&name) {
            if LANGUAGE.types().find_type(name).is_none() {
                let known = variables.join(", ");
                // A single word probably is a missing quotation.
                let quoted = match expression.id == self.program.expression().id {
                    true => format!("; write literal text as \"'{name}'\""),
                    false => String::new(),
                };
                let reason = format!("unknown variable '{name}'; known: {known}{quoted}");
                self.note(expression, reason);
            }
            return;
        }
        self.findings.multiplies |= self.in_item;
        match name {
            "apps" => self.findings.apps = AppsRead::All,
            "steps" => self.note(
                expression,
                "a step must be named literally: steps.<name>.output".to_owned(),
            ),
            _ => {}
        }
    }

    fn visit_member(&mut self, expression: &'p IdedExpr, member: &Member<'p>) {
        if self.is(member.of, "apps") {
            return match member.name {
                Name::Written(name) => self.visit_app(expression, name),
                Name::Computed(index) => {
                    self.findings.apps = AppsRead::All;
                    self.visit(index);
                }
            };
        }
        if self.is(member.of, "steps") {
            return self.visit_step(expression, member, None);
        }
        if let Some(inner) = Member::of(member.of) {
            if self.is(inner.of, "steps") {
                return self.visit_step(member.of, &inner, Some(member));
            }
            if let Name::Written(field) = member.name
                && self.is(inner.of, "apps")
                && !APP_FIELDS.iter().any(|(known, _)| *known == field)
            {
                let known = APP_FIELDS.map(|(known, _)| known).join(", ");
                self.note(
                    expression,
                    format!("unknown app field '{field}'; known: {known}"),
                );
            }
        }
        self.visit(member.of);
        if let Name::Computed(index) = member.name {
            self.visit(index);
        }
    }

    fn visit_app(&mut self, expression: &IdedExpr, name: &str) {
        let ExtraVariables::Apps(apps) = self.extra else {
            return;
        };
        match AppId::parse(name).ok().filter(|app| apps.contains(app)) {
            Some(app) => {
                if let AppsRead::Named(seen) = &mut self.findings.apps {
                    seen.insert(app);
                }
            }
            None => {
                let reason = format!("app '{name}' is not declared in this file");
                self.note(expression, reason);
            }
        }
    }

    /// `at`: the step's name. `member`: the member of it that is read.
    fn visit_step(&mut self, at: &IdedExpr, step: &Member<'_>, member: Option<&Member<'_>>) {
        self.findings.reads_steps = true;
        self.findings.multiplies |= self.in_item;
        let (ExtraVariables::Steps(earlier), Name::Written(name)) = (self.extra, step.name) else {
            let reason = "a step must be named literally: steps.<name>.output";
            return self.note(at, reason.to_owned());
        };
        if !earlier.iter().any(|step| step == name) {
            let known = match earlier {
                [] => "no step precedes this one".to_owned(),
                earlier => format!("earlier steps: {}", earlier.join(", ")),
            };
            return self.note(at, format!("unknown step '{name}'; {known}"));
        }
        if !member.is_some_and(|member| matches!(member.name, Name::Written("output"))) {
            let reason = format!("a step has only an output: steps.{name}.output");
            self.note(at, reason);
        }
    }

    fn visit_function(&mut self, expression: &IdedExpr, name: &str, arguments: &[IdedExpr]) {
        if !is_function(name) {
            self.note(expression, format!("unknown function '{name}'"));
        }
        if name == "matches" {
            // The pattern is compiled at each evaluation.
            self.reject_in_loop(expression);
            match arguments.last().map(|argument| &argument.expr) {
                Some(Expr::Literal(LiteralValue::String(pattern))) => {
                    if let Err(reason) = regex(pattern.inner()) {
                        self.note(expression, reason);
                    }
                }
                _ => self.note(
                    expression,
                    "the pattern of 'matches' must be a literal".to_owned(),
                ),
            }
        }
    }

    fn reject_in_loop(&mut self, expression: &IdedExpr) {
        if !self.loops.is_empty() {
            let reason = "a loop (all, exists, exists_one, filter, map) must not contain a loop or 'matches'";
            self.note(expression, reason.to_owned());
        }
    }

    /// Returns whether an expression is this variable, and not a loop's of the same name.
    fn is(&self, expression: &IdedExpr, variable: &str) -> bool {
        matches!(&expression.expr, Expr::Ident(name) if name == variable)
            && self.extra.names().contains(&variable)
            && !self.is_loop_variable(variable)
    }

    fn is_loop_variable(&self, name: &str) -> bool {
        self.loops
            .iter()
            .flatten()
            .any(|variable| *variable == name)
    }

    fn note(&mut self, expression: &IdedExpr, reason: String) {
        let info = self.program.source_info();
        let start = info.offset_for(expression.id).map_or(0, |(start, _)| start);
        let offset = usize::try_from(start).unwrap_or(0);
        self.findings.mistakes.push(Mistake { offset, reason });
    }
}

/// A part of a value: `of.name`, `of['name']`, `of.?name`, `of[?'name']`, `has(of.name)`; or
/// `of[…]`.
struct Member<'e> {
    of: &'e IdedExpr,
    name: Name<'e>,
}

#[derive(Clone, Copy)]
enum Name<'e> {
    Written(&'e str),
    Computed(&'e IdedExpr),
}

impl<'e> Member<'e> {
    fn of(expression: &'e IdedExpr) -> Option<Self> {
        match &expression.expr {
            Expr::Select(select) => Some(Self {
                of: &select.operand,
                name: Name::Written(&select.field),
            }),
            Expr::Call(call) => {
                let operators = [
                    operators::INDEX,
                    operators::OPT_INDEX,
                    operators::OPT_SELECT,
                ];
                let [of, index] = call.args.as_slice() else {
                    return None;
                };
                let name = match &index.expr {
                    Expr::Literal(LiteralValue::String(name)) => Name::Written(name.inner()),
                    _ => Name::Computed(index),
                };
                operators
                    .contains(&call.func_name.as_str())
                    .then_some(Self { of, name })
            }
            _ => None,
        }
    }
}

/// Returns the id of the expression that a loop adds to its list for each item (`map`, `filter`);
/// `None` if it builds no list.
fn added_item(each: &ComprehensionExpr) -> Option<u64> {
    let mut step = &each.loop_step;
    if let Expr::Call(call) = &step.expr
        && call.func_name == operators::CONDITIONAL
    {
        step = call.args.get(1)?;
    }
    match &step.expr {
        Expr::Call(call) if call.func_name == operators::ADD => match call.args.as_slice() {
            [_, items] if matches!(items.expr, Expr::List(_)) => Some(items.id),
            _ => None,
        },
        _ => None,
    }
}

/// Returns whether `target` is the `optional` of `optional.of(x)`, part of the function's name.
fn is_optional(target: &IdedExpr) -> bool {
    matches!(&target.expr, Expr::Ident(name) if name == "optional")
}

/// Returns whether a global function or method exists.
fn is_function(name: &str) -> bool {
    function_exists(&format!("{name}()")) || function_exists(&format!("(0).{name}()"))
}

/// Returns whether the called function exists. The crate does not list its functions, but a call
/// shows it.
fn function_exists(call: &str) -> bool {
    let context = Context::with_env(LANGUAGE.clone());
    let called = LANGUAGE
        .compile(call)
        .map(|program| program.execute(&context));
    !matches!(
        called,
        Ok(Err(ExecutionError::UndeclaredReference(_))) | Err(_)
    )
}

/// Compiles a pattern as the crate does.
fn regex(pattern: &str) -> Result<(), String> {
    let mut context = Context::with_env(LANGUAGE.clone());
    context.add_variable_as_val("pattern", string(pattern));
    match LANGUAGE
        .compile("''.matches(pattern)")
        .map(|program| program.execute(&context))
    {
        Ok(Err(error)) => Err(format!(
            "invalid regular expression: {}",
            truncated(&error.to_string())
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{apps, compile};
    use super::super::{Expression, MAX_EXPRESSION_BYTES};
    use super::*;

    fn mistake(source: &str) -> (usize, String) {
        let mistakes = compile(source).unwrap_err();
        (mistakes[0].offset, mistakes[0].reason.clone())
    }

    #[test]
    fn mistakes_are_reported_before_the_first_submission() {
        assert_eq!(mistake("1 +").0, 3);
        assert_eq!(mistake("input.width > wdith").0, 14);
        assert!(mistake("inptu.width > 1").1.contains("'inptu'"));
        assert!(mistake("png").1.contains("as \"'png'\""));
        assert!(
            mistake("input.prompt.beginsWith('a')")
                .1
                .contains("'beginsWith'")
        );
        assert!(mistake("near(input.width)").1.contains("'near'"));
        assert!(mistake("optional.some(1)").1.contains("'optional.some'"));
        assert!(mistake("input.prompt.matches('(')").1.contains("regular"));
        assert!(
            mistake("input.prompt.matches(input.pattern)")
                .1
                .contains("literal")
        );
        assert!(
            mistake("input.a.all(x, input.b.all(y, x == y))")
                .1
                .contains("loop")
        );
        assert!(mistake("input.a.all(x, x.matches('a'))").1.contains("loop"));
        assert!(mistake("Box{a: 1}.a == 1").1.contains("'Box'"));
        assert!(
            mistake(&format!("'{}' == ''", "a".repeat(MAX_EXPRESSION_BYTES)))
                .1
                .contains("bytes")
        );
        assert!(compile("").is_err());
        // The variables of a loop exist only in it.
        assert!(compile("input.a.filter(x, x > 1).all(y, y < 9)").is_ok());
        assert!(mistake("input.a.all(x, x > 1) && x > 1").1.contains("'x'"));
    }

    #[test]
    fn apps_are_those_of_the_file_and_have_their_fields() {
        let seen = |source: &str| match compile(source).unwrap().apps {
            AppsRead::Named(apps) => apps.iter().map(AppId::to_string).collect(),
            AppsRead::All => vec!["all".to_owned()],
        };
        assert_eq!(seen("input.width > 1"), Vec::<String>::new());
        assert_eq!(
            seen("apps['a/one'].wait_s < apps['a/two'].wait_s"),
            ["a/one", "a/two"]
        );
        assert_eq!(seen("apps[?'a/one'].?idle.orValue(0) > 0"), ["a/one"]);
        assert_eq!(seen("apps['a/one']['cost'] < 1"), ["a/one"]);
        assert_eq!(seen("apps[input.app].idle > 0"), ["all"]);
        assert_eq!(seen("apps['a/one'].idle > 0 || size(apps) > 7"), ["all"]);
        assert_eq!(
            seen("input.a.all(apps, apps.speed > 0)"),
            Vec::<String>::new()
        );
        let three = "apps['a/three'].idle > 0";
        assert_eq!(mistake(three).0, 4);
        assert!(mistake(three).1.contains("app 'a/three' is not declared"));
        assert!(mistake("apps.one.idle > 0").1.contains("'one'"));
        for source in [
            "apps['a/one'].speed > 1",
            "apps[input.app]['speed'] > 1",
            "has(apps['a/one'].speed)",
        ] {
            let reason = mistake(source).1;
            assert!(
                reason.contains("unknown app field 'speed'; known: cost, wait_s"),
                "{reason}"
            );
        }
    }

    #[test]
    fn steps_are_earlier_ones_and_have_an_output() {
        let earlier = ["draw".to_owned(), "cut".to_owned()];
        let compile =
            |source: &str, steps| Expression::compile(source, ExtraVariables::Steps(steps));
        for source in [
            "steps.draw.output.images[0].url",
            "steps['draw'].output",
            "steps.draw.?output.orValue(1)",
            "steps.draw.output.map(x, x.url) + steps.cut.output",
        ] {
            assert!(compile(source, &earlier).unwrap().reads_steps, "{source}");
        }
        assert!(!compile("input.prompt", &earlier).unwrap().reads_steps);
        let mistake = |source: &str, steps| {
            let mistakes = compile(source, steps).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{source}: {mistakes:?}");
            mistakes[0].reason.clone()
        };
        assert_eq!(
            mistake("steps.glue.output", &earlier),
            "unknown step 'glue'; earlier steps: draw, cut"
        );
        assert_eq!(
            mistake("steps.glue.output", &[]),
            "unknown step 'glue'; no step precedes this one"
        );
        for source in [
            "steps.draw.state",
            "steps.draw",
            "has(steps.draw)",
            "steps.draw[input.a]",
        ] {
            assert!(
                mistake(source, &earlier).contains("steps.draw.output"),
                "{source}"
            );
        }
        for source in [
            "size(steps)",
            "steps[input.a].output",
            "steps.all(s, s == 'draw')",
        ] {
            assert!(
                mistake(source, &earlier).contains("named literally"),
                "{source}"
            );
        }
        // Each location has its own variables.
        assert!(mistake("apps['a/one'].idle", &[]).contains("known: input, headers, key, steps"));
        let condition = Expression::compile("steps.draw.output > 1", ExtraVariables::Apps(&apps()));
        assert!(
            condition.unwrap_err()[0]
                .reason
                .contains("known: input, headers, key, apps")
        );
        let alone = Expression::compile("steps.draw.output", ExtraVariables::None);
        assert!(
            alone.unwrap_err()[0]
                .reason
                .ends_with("known: input, headers, key")
        );
    }
}
