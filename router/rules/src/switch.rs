//! A switch: rules in order, and the first whose condition holds says where to go.

use warmq_types::ids::AppId;

use crate::error::Trouble;
use crate::expression::{Expression, Failure, Scene};

/// A declared switch.
#[derive(Debug, PartialEq)]
pub struct Switch {
    /// The rules, tried in this order.
    pub rules: Vec<Rule>,
    /// Where to go if no rule applies.
    pub default: AppId,
}

/// Where to go, and when.
#[derive(Debug, PartialEq)]
pub struct Rule {
    /// The condition.
    pub when: Expression,
    /// An app, or another route.
    pub to: AppId,
}

impl Switch {
    /// Where a submission goes, and why. A rule that asks for what the submission lacks does not
    /// apply to it: most fields of most inputs may be left out.
    pub(crate) fn choose(&self, scene: &Scene<'_>) -> Result<(&AppId, String), Trouble> {
        let mut lacking = Vec::new();
        for (n, rule) in self.rules.iter().enumerate() {
            let number = n + 1;
            match rule.when.holds(scene) {
                Ok(true) => {
                    let condition = rule.when.source();
                    let reason = format!(
                        "rule {number} of {} applied: {condition}{}",
                        self.rules.len(),
                        told(&lacking)
                    );
                    return Ok((&rule.to, reason));
                }
                Ok(false) => {}
                Err(Failure::Lacks(what)) => lacking.push((number, what)),
                Err(Failure::Wrong(reason)) => {
                    let place = format!("rule {number}");
                    return Err(Trouble::with(&rule.when, reason).within(&place));
                }
            }
        }
        let reason = match self.rules.len() {
            1 => "its rule did not apply".to_owned(),
            rules => format!("none of its {rules} rules applied"),
        };
        Ok((&self.default, reason + &told(&lacking)))
    }
}

/// Rules that did not apply since something was not there, in brackets.
fn told(lacking: &[(usize, String)]) -> String {
    let rules: Vec<String> = lacking
        .iter()
        .map(|(rule, what)| format!("rule {rule} asks for {what}, which was not given"))
        .collect();
    match rules.is_empty() {
        true => String::new(),
        false => format!(" ({})", rules.join("; ")),
    }
}
