//! Mistakes that the parser leaves to the evaluation, found in the syntax tree.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::{Context, ExecutionError, Program};

use super::json::string;
use super::{LANGUAGE, MOST_LEVELS, Mistake, VARIABLES, told};

/// Looks for mistakes that the parser leaves to the evaluation.
pub(super) struct Review<'p> {
    program: &'p Program,
    /// Variables that are known here; those of loops at the end.
    scope: Vec<String>,
    /// Loops around the place that is looked at.
    loops: usize,
    /// Levels above it.
    levels: usize,
    mistakes: Vec<Mistake>,
}

impl<'p> Review<'p> {
    /// The mistakes in a program.
    pub(super) fn of(program: &'p Program) -> Vec<Mistake> {
        let mut review = Self {
            program,
            scope: VARIABLES.map(str::to_owned).into(),
            loops: 0,
            levels: 0,
            mistakes: Vec::new(),
        };
        review.look(program.expression());
        review.mistakes
    }

    fn look(&mut self, expression: &IdedExpr) {
        if self.levels == MOST_LEVELS {
            let reason = format!("it is nested more than {MOST_LEVELS} levels deep");
            return self.note(expression, reason);
        }
        self.levels += 1;
        self.look_at(expression);
        self.levels -= 1;
    }

    fn look_at(&mut self, expression: &IdedExpr) {
        match &expression.expr {
            Expr::Ident(name) => self.look_at_name(expression, name),
            Expr::Select(select) => self.look(&select.operand),
            Expr::Call(call) => {
                if let Some(target) = &call.target {
                    self.look(target);
                }
                call.args.iter().for_each(|argument| self.look(argument));
                if call.func_name.starts_with(|c: char| c.is_alphabetic()) {
                    self.look_at_function(expression, &call.func_name, &call.args);
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
            Expr::Comprehension(each) => {
                self.look(&each.iter_range);
                self.look(&each.accu_init);
                self.look_at_loop(expression);
                let known = self.scope.len();
                self.scope.push(each.iter_var.clone());
                self.scope.extend(each.iter_var2.clone());
                self.scope.push(each.accu_var.clone());
                self.loops += 1;
                for part in [&each.loop_cond, &each.loop_step, &each.result] {
                    self.look(part);
                }
                self.loops -= 1;
                self.scope.truncate(known);
            }
            Expr::Struct(made) => {
                self.note(expression, format!("there is no type '{}'", made.type_name));
            }
            Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn look_at_name(&mut self, expression: &IdedExpr, name: &str) {
        let known = self.scope.iter().any(|variable| variable == name)
            || LANGUAGE.types().find_type(name).is_some();
        if !known {
            let [first, second, third] = VARIABLES;
            self.note(
                expression,
                format!("there is no '{name}'; expressions know {first}, {second} and {third}"),
            );
        }
    }

    fn look_at_function(&mut self, expression: &IdedExpr, name: &str, arguments: &[IdedExpr]) {
        if !is_function(name) {
            self.note(expression, format!("there is no function '{name}'"));
        }
        if name == "matches" {
            // It is compiled at each evaluation.
            self.look_at_loop(expression);
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

    fn look_at_loop(&mut self, expression: &IdedExpr) {
        if self.loops > 0 {
            let reason =
                "a loop (all, exists, exists_one, filter, map) can hold no other, nor 'matches'";
            self.note(expression, reason.to_owned());
        }
    }

    fn note(&mut self, expression: &IdedExpr, reason: String) {
        let info = self.program.source_info();
        let start = info.offset_for(expression.id).map_or(0, |(start, _)| start);
        let offset = usize::try_from(start).unwrap_or(0);
        self.mistakes.push(Mistake { offset, reason });
    }
}

/// Whether CEL has such a function, global or of a value. The crate does not list them, but tells them apart when called.
fn is_function(name: &str) -> bool {
    [format!("{name}()"), format!("(0).{name}()")]
        .iter()
        .any(|call| {
            let context = Context::with_env(LANGUAGE.clone());
            let called = LANGUAGE
                .compile(call)
                .map(|program| program.execute(&context));
            !matches!(
                called,
                Ok(Err(ExecutionError::UndeclaredReference(_))) | Err(_)
            )
        })
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
            told(&error.to_string())
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Expression, LONGEST_EXPRESSION};

    fn mistake(source: &str) -> (usize, String) {
        let mistakes = Expression::compile(source).unwrap_err();
        (mistakes[0].offset, mistakes[0].reason.clone())
    }

    #[test]
    fn mistakes_are_told_before_the_first_submission() {
        assert_eq!(mistake("1 +").0, 3);
        assert_eq!(mistake("input.width > wdith").0, 14);
        assert!(mistake("inptu.width > 1").1.contains("'inptu'"));
        assert!(
            mistake("input.prompt.beginsWith('a')")
                .1
                .contains("'beginsWith'")
        );
        assert!(mistake("near(input.width)").1.contains("'near'"));
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
            mistake(&format!("'{}' == ''", "a".repeat(LONGEST_EXPRESSION)))
                .1
                .contains("bytes")
        );
        assert!(Expression::compile("").is_err());
        // The variables of a loop are known in it, and only there.
        assert!(Expression::compile("input.a.filter(x, x > 1).all(y, y < 9)").is_ok());
        assert!(mistake("input.a.all(x, x > 1) && x > 1").1.contains("'x'"));
    }
}
