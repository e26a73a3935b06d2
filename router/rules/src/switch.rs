//! A switch: the first rule whose condition holds determines the target.

use warmq_types::ids::AppId;

use crate::evaluation_error::EvaluationError;
use crate::expression::{Expression, Failure, Variables};

/// A declared switch.
#[derive(Debug, PartialEq)]
pub struct Switch {
    /// Rules, in order of evaluation.
    pub rules: Vec<Rule>,
    /// Target if no rule applies.
    pub default: AppId,
}

/// A target with its condition.
#[derive(Debug, PartialEq)]
pub struct Rule {
    /// Condition.
    pub when: Expression,
    /// An app, or another route.
    pub to: AppId,
}

impl Switch {
    /// Chooses the target of a submission; returns it with the reason. A rule that reads an absent
    /// value does not apply, since most fields of inputs are optional.
    pub(crate) fn choose(
        &self,
        variables: &Variables<'_>,
    ) -> Result<(&AppId, String), EvaluationError> {
        let mut absent = Vec::new();
        for (n, rule) in self.rules.iter().enumerate() {
            let number = n + 1;
            match rule.when.holds(variables) {
                Ok(true) => {
                    let condition = rule.when.source();
                    let reason = format!(
                        "rule {number} of {} applied: {condition}{}",
                        self.rules.len(),
                        format_absent(&absent)
                    );
                    return Ok((&rule.to, reason));
                }
                Ok(false) => {}
                Err(Failure::Missing(what)) => absent.push((number, what)),
                Err(Failure::Invalid(reason)) => {
                    let place = format!("rule {number}");
                    return Err(EvaluationError::with(&rule.when, reason).within(&place));
                }
            }
        }
        let reason = match self.rules.len() {
            1 => "its rule did not apply".to_owned(),
            rules => format!("none of its {rules} rules applied"),
        };
        Ok((&self.default, reason + &format_absent(&absent)))
    }
}

/// Formats the rules that read absent values, in brackets.
fn format_absent(absent: &[(usize, String)]) -> String {
    let rules: Vec<String> = absent
        .iter()
        .map(|(rule, what)| format!("rule {rule}: {what} is absent"))
        .collect();
    match rules.is_empty() {
        true => String::new(),
        false => format!(" ({})", rules.join("; ")),
    }
}
