//! Mistakes that the parser leaves to the evaluation, found in the syntax tree; and what an
//! expression looks at.

use std::collections::BTreeSet;

use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::{Context, ExecutionError, Program};
use warmq_types::ids::AppId;

use super::json::{APP_FIELDS, string};
use super::{AppsSeen, Beside, LANGUAGE, MAX_LEVELS, Mistake, truncated};

/// What is found in a program.
pub(super) struct Findings {
    pub(super) mistakes: Vec<Mistake>,
    /// The apps that it may look at.
    pub(super) apps: AppsSeen,
    /// Whether it looks at what steps gave.
    pub(super) sees_steps: bool,
    /// Whether a list that it makes may hold a variable once for each item of another.
    pub(super) multiplies: bool,
}

impl Findings {
    /// Looks at a program in its surroundings.
    pub(super) fn of(program: &Program, beside: Beside<'_>) -> Self {
        let mut review = Review {
            program,
            beside,
            loops: Vec::new(),
            gathered: None,
            gathering: false,
            levels: 0,
            findings: Self {
                mistakes: Vec::new(),
                apps: AppsSeen::These(BTreeSet::new()),
                sees_steps: false,
                multiplies: false,
            },
        };
        review.look(program.expression());
        review.findings
    }
}

struct Review<'p> {
    program: &'p Program,
    beside: Beside<'p>,
    /// The variables of the loops around the place that is looked at, the innermost last.
    loops: Vec<Vec<&'p str>>,
    /// What the loop there puts into its list for each item: the expression's id.
    gathered: Option<u64>,
    /// Whether the place is within that.
    gathering: bool,
    /// Levels above the place.
    levels: usize,
    findings: Findings,
}

impl<'p> Review<'p> {
    fn look(&mut self, expression: &'p IdedExpr) {
        if self.levels == MAX_LEVELS {
            let reason = format!("it is nested more than {MAX_LEVELS} levels deep");
            return self.note(expression, reason);
        }
        let outer = self.gathering;
        self.gathering |= self.gathered == Some(expression.id);
        self.levels += 1;
        match Member::of(expression) {
            Some(member) => self.look_at_member(expression, &member),
            None => self.look_at(expression),
        }
        self.levels -= 1;
        self.gathering = outer;
    }

    fn look_at(&mut self, expression: &'p IdedExpr) {
        match &expression.expr {
            Expr::Ident(name) => self.look_at_name(expression, name),
            Expr::Call(call) => {
                call.args.iter().for_each(|argument| self.look(argument));
                match &call.target {
                    Some(target) if is_optional(target) => {
                        if !answers(&format!("optional.{}()", call.func_name)) {
                            let name = &call.func_name;
                            self.note(
                                expression,
                                format!("there is no function 'optional.{name}'"),
                            );
                        }
                    }
                    target => {
                        target.iter().for_each(|target| self.look(target));
                        if call.func_name.starts_with(|c: char| c.is_alphabetic()) {
                            self.look_at_function(expression, &call.func_name, &call.args);
                        }
                    }
                }
            }
            Expr::List(list) => list.elements.iter().for_each(|item| self.look(item)),
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.look(&entry.key);
                        self.look(&entry.value);
                    }
                }
            }
            Expr::Comprehension(each) => self.look_at_loop(expression, each),
            Expr::Struct(made) => {
                self.note(expression, format!("there is no type '{}'", made.type_name));
            }
            Expr::Select(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn look_at_loop(&mut self, expression: &'p IdedExpr, each: &'p ComprehensionExpr) {
        self.look(&each.iter_range);
        self.look(&each.accu_init);
        self.no_loop_around(expression);
        let variables = [
            Some(&each.iter_var),
            each.iter_var2.as_ref(),
            Some(&each.accu_var),
        ];
        let variables = variables.into_iter().flatten().map(String::as_str);
        self.loops.push(variables.collect());
        self.gathered = gathered(each);
        for part in [&each.loop_cond, &each.loop_step, &each.result] {
            self.look(part);
        }
        self.gathered = None;
        self.loops.pop();
    }

    fn look_at_name(&mut self, expression: &IdedExpr, name: &str) {
        if self.is_of_a_loop(name) {
            return;
        }
        let variables = self.beside.variables();
        if !variables.contains(&name) {
            if LANGUAGE.types().find_type(name).is_none() {
                let known = variables.join(", ");
                // One word alone was hardly meant as an expression.
                let quoted = match expression.id == self.program.expression().id {
                    true => format!("; a text that is meant as it stands is written \"'{name}'\""),
                    false => String::new(),
                };
                let reason = format!("there is no '{name}'; known here: {known}{quoted}");
                self.note(expression, reason);
            }
            return;
        }
        self.findings.multiplies |= self.gathering;
        match name {
            "apps" => self.findings.apps = AppsSeen::All,
            "steps" => self.note(
                expression,
                "steps are named one by one: steps.name.output".to_owned(),
            ),
            _ => {}
        }
    }

    fn look_at_member(&mut self, expression: &'p IdedExpr, member: &Member<'p>) {
        if self.is(member.of, "apps") {
            return match member.name {
                Name::Written(name) => self.look_at_app(expression, name),
                Name::Computed(index) => {
                    self.findings.apps = AppsSeen::All;
                    self.look(index);
                }
            };
        }
        if self.is(member.of, "steps") {
            return self.look_at_step(expression, member, None);
        }
        if let Some(inner) = Member::of(member.of) {
            if self.is(inner.of, "steps") {
                return self.look_at_step(member.of, &inner, Some(member));
            }
            if let Name::Written(field) = member.name
                && self.is(inner.of, "apps")
                && !APP_FIELDS.iter().any(|(known, _)| *known == field)
            {
                let known = APP_FIELDS.map(|(known, _)| known).join(", ");
                self.note(
                    expression,
                    format!("apps have no '{field}'; they have {known}"),
                );
            }
        }
        self.look(member.of);
        if let Name::Computed(index) = member.name {
            self.look(index);
        }
    }

    fn look_at_app(&mut self, expression: &IdedExpr, name: &str) {
        let Beside::Apps(apps) = self.beside else {
            return;
        };
        match AppId::parse(name).ok().filter(|app| apps.contains(app)) {
            Some(app) => {
                if let AppsSeen::These(seen) = &mut self.findings.apps {
                    seen.insert(app);
                }
            }
            None => {
                let reason = format!("no app of this file is named '{name}'");
                self.note(expression, reason);
            }
        }
    }

    /// `at`: the step's name. `of_it`: what is asked of it.
    fn look_at_step(&mut self, at: &IdedExpr, step: &Member<'_>, of_it: Option<&Member<'_>>) {
        self.findings.sees_steps = true;
        self.findings.multiplies |= self.gathering;
        let (Beside::Steps(earlier), Name::Written(name)) = (self.beside, step.name) else {
            let reason = "steps are named one by one: steps.name.output";
            return self.note(at, reason.to_owned());
        };
        if !earlier.iter().any(|step| step == name) {
            let known = match earlier {
                [] => "this is the first one".to_owned(),
                earlier => format!("earlier ones: {}", earlier.join(", ")),
            };
            return self.note(at, format!("there is no earlier step '{name}'; {known}"));
        }
        if !of_it.is_some_and(|member| matches!(member.name, Name::Written("output"))) {
            let reason =
                format!("what a step gave is steps.{name}.output, and nothing else of it is known");
            self.note(at, reason);
        }
    }

    fn look_at_function(&mut self, expression: &IdedExpr, name: &str, arguments: &[IdedExpr]) {
        if !is_function(name) {
            self.note(expression, format!("there is no function '{name}'"));
        }
        if name == "matches" {
            // It is compiled at each evaluation.
            self.no_loop_around(expression);
            match arguments.last().map(|argument| &argument.expr) {
                Some(Expr::Literal(LiteralValue::String(pattern))) => {
                    if let Err(reason) = regex(pattern.inner()) {
                        self.note(expression, reason);
                    }
                }
                _ => self.note(
                    expression,
                    "the pattern of 'matches' is to be written out".to_owned(),
                ),
            }
        }
    }

    fn no_loop_around(&mut self, expression: &IdedExpr) {
        if !self.loops.is_empty() {
            let reason =
                "a loop (all, exists, exists_one, filter, map) can hold no other, nor 'matches'";
            self.note(expression, reason.to_owned());
        }
    }

    /// Whether an expression is this variable, which is known here.
    fn is(&self, expression: &IdedExpr, variable: &str) -> bool {
        matches!(&expression.expr, Expr::Ident(name) if name == variable)
            && self.beside.variables().contains(&variable)
            && !self.is_of_a_loop(variable)
    }

    fn is_of_a_loop(&self, name: &str) -> bool {
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

/// What a loop adds to its list for each item (`map`, `filter`); none if it makes no list.
fn gathered(each: &ComprehensionExpr) -> Option<u64> {
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

/// Whether it begins `optional.of(x)`, where it is no variable but part of the function's name.
fn is_optional(target: &IdedExpr) -> bool {
    matches!(&target.expr, Expr::Ident(name) if name == "optional")
}

/// Whether CEL has such a function, global or of a value.
fn is_function(name: &str) -> bool {
    answers(&format!("{name}()")) || answers(&format!("(0).{name}()"))
}

/// Returns whether the called function exists. The crate has no list of them, but a call shows it.
fn answers(call: &str) -> bool {
    let context = Context::with_env(LANGUAGE.clone());
    let called = LANGUAGE
        .compile(call)
        .map(|program| program.execute(&context));
    !matches!(
        called,
        Ok(Err(ExecutionError::UndeclaredReference(_))) | Err(_)
    )
}

/// Whether the crate can compile this pattern.
fn regex(pattern: &str) -> Result<(), String> {
    let mut context = Context::with_env(LANGUAGE.clone());
    context.add_variable_as_val("pattern", string(pattern));
    match LANGUAGE
        .compile("''.matches(pattern)")
        .map(|program| program.execute(&context))
    {
        Ok(Err(error)) => Err(format!(
            "it is no regular expression: {}",
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
        assert!(mistake("png").1.contains("written \"'png'\""));
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
                .contains("written out")
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
        // The variables of a loop are known in it, and only there.
        assert!(compile("input.a.filter(x, x > 1).all(y, y < 9)").is_ok());
        assert!(mistake("input.a.all(x, x > 1) && x > 1").1.contains("'x'"));
    }

    #[test]
    fn apps_are_those_of_the_file_and_have_their_fields() {
        let seen = |source: &str| match compile(source).unwrap().apps {
            AppsSeen::These(apps) => apps.iter().map(AppId::to_string).collect(),
            AppsSeen::All => vec!["all".to_owned()],
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
        assert!(
            mistake(three)
                .1
                .contains("no app of this file is named 'a/three'")
        );
        assert!(mistake("apps.one.idle > 0").1.contains("'one'"));
        for source in [
            "apps['a/one'].speed > 1",
            "apps[input.app]['speed'] > 1",
            "has(apps['a/one'].speed)",
        ] {
            let reason = mistake(source).1;
            assert!(
                reason.contains("apps have no 'speed'; they have cost, wait_s"),
                "{reason}"
            );
        }
    }

    #[test]
    fn steps_are_earlier_ones_and_have_an_output() {
        let earlier = ["draw".to_owned(), "cut".to_owned()];
        let compile = |source: &str, steps| Expression::compile(source, Beside::Steps(steps));
        for source in [
            "steps.draw.output.images[0].url",
            "steps['draw'].output",
            "steps.draw.?output.orValue(1)",
            "steps.draw.output.map(x, x.url) + steps.cut.output",
        ] {
            assert!(compile(source, &earlier).unwrap().sees_steps, "{source}");
        }
        assert!(!compile("input.prompt", &earlier).unwrap().sees_steps);
        let mistake = |source: &str, steps| {
            let mistakes = compile(source, steps).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{source}: {mistakes:?}");
            mistakes[0].reason.clone()
        };
        assert_eq!(
            mistake("steps.glue.output", &earlier),
            "there is no earlier step 'glue'; earlier ones: draw, cut"
        );
        assert_eq!(
            mistake("steps.glue.output", &[]),
            "there is no earlier step 'glue'; this is the first one"
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
            assert!(mistake(source, &earlier).contains("one by one"), "{source}");
        }
        // Each kind of place has its own variables.
        assert!(
            mistake("apps['a/one'].idle", &[]).contains("known here: input, headers, key, steps")
        );
        let condition = Expression::compile("steps.draw.output > 1", Beside::Apps(&apps()));
        assert!(
            condition.unwrap_err()[0]
                .reason
                .contains("known here: input, headers, key, apps")
        );
        let alone = Expression::compile("steps.draw.output", Beside::Nothing);
        assert!(
            alone.unwrap_err()[0]
                .reason
                .ends_with("known here: input, headers, key")
        );
    }
}
