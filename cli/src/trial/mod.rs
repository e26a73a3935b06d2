//! Where routes would send a submission, tried out without a router.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `steps` | the steps of a flow, as far as they can be known |
//! | `supposed` | how apps are supposed to stand |

mod steps;
mod supposed;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};
use warmq_config::Apps;
use warmq_rules::{AppLoadEstimate, Asked, Draw, Error, Resolved, Routes};
use warmq_types::ids::{AppId, JobId};
use warmq_types::route::{Hop, RouteKind};

pub use self::steps::{StepTrial, StepsTrial};
pub use self::supposed::{Supposed, standing};

/// Keys that a split is tried with.
pub const KEYS: u32 = 10_000;

/// What a submission says.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The input.
    pub input: Value,
    /// Headers, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The name of the API key.
    pub key: String,
    /// How the apps of the file stand.
    pub apps: BTreeMap<AppId, AppLoadEstimate>,
}

/// What became of it at one route.
#[derive(Debug)]
pub struct Trial {
    /// The route that it was submitted to.
    pub route: AppId,
    /// The app that it would go to, or the route whose flow it would become, and why; or why it would be refused.
    pub outcome: Result<Resolved, Error>,
    /// The steps of the flow that it would become.
    pub steps: Option<StepsTrial>,
    /// Of [`KEYS`] submissions that are like it but for their keys, those that would go to each app or flow. Empty if no split is on
    /// its way.
    pub spread: BTreeMap<AppId, u32>,
}

/// Submits `sample` to `route`, as if.
pub fn attempt(routes: &Routes, route: &AppId, sample: &Sample) -> Trial {
    let job = JobId::generate().to_string();
    let outcome = way(routes, route, sample, Draw::Job(&job));
    let is_split =
        |resolved: &Resolved| (resolved.hops.iter()).any(|hop| hop.kind == RouteKind::Split);
    let mut spread = BTreeMap::new();
    if outcome.as_ref().is_ok_and(is_split) {
        for key in 0..KEYS {
            let key = key.to_string();
            if let Ok(resolved) = way(routes, route, sample, Draw::Everywhere(&key)) {
                *spread.entry(resolved.app).or_default() += 1;
            }
        }
    }
    let flow = (outcome.as_ref().ok()).and_then(|resolved| routes.flow(&resolved.app));
    Trial {
        route: route.clone(),
        steps: flow.map(|flow| StepsTrial::of(routes, &flow, sample)),
        outcome,
        spread,
    }
}

impl Trial {
    /// Whether it would be refused, or fail for sure in one of its steps.
    pub fn is_refused(&self) -> bool {
        let steps = self.steps.as_ref();
        self.outcome.is_err() || steps.is_some_and(|steps| steps.error().is_some())
    }
}

/// How the apps of the file stand, if all stand well but those of which something is supposed.
pub fn standings(apps: &Apps, supposed: &[Supposed]) -> BTreeMap<AppId, AppLoadEstimate> {
    let mut standings = BTreeMap::new();
    for name in apps.names() {
        let config = apps.get(name);
        let said = supposed.iter().rfind(|supposed| supposed.app == *name);
        let standing = said.map_or_else(|| standing(&config), |said| said.standing(&config));
        standings.insert(name.clone(), standing);
    }
    standings
}

/// Where `sample` would go.
fn way(routes: &Routes, route: &AppId, sample: &Sample, draw: Draw<'_>) -> Result<Resolved, Error> {
    with_asked(sample, draw, |asked| routes.resolve(route, asked))
}

/// Shows `sample` to expressions.
fn with_asked<T>(sample: &Sample, draw: Draw<'_>, ask: impl FnOnce(&Asked<'_>) -> T) -> T {
    ask(&Asked {
        input: &sample.input,
        headers: &sample.headers,
        key: &sample.key,
        apps: &sample.apps,
        steps: &BTreeMap::new(),
        draw,
    })
}

/// `acme/images (switch) → acme/small: rule 1 of 2 applied: …`
fn told(hop: &Hop) -> String {
    let kind = hop.kind.as_str();
    format!("{} ({kind}) → {}: {}", hop.route, hop.to, hop.reason)
}

impl fmt::Display for Trial {
    /// Several lines, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(resolved) => {
                let mut names = vec![self.route.to_string(), resolved.app.to_string()];
                let kind = self.steps.as_ref().map(|steps| steps.kind);
                names.extend(kind.map(|kind| format!("a {}", kind.as_str())));
                names.dedup();
                write!(f, "{}", names.join(" → "))?;
                for hop in &resolved.hops {
                    write!(f, "\n  {}", told(hop))?;
                }
                if let Some(steps) = &self.steps {
                    write!(f, "{steps}")?;
                }
            }
            Err(error) => write!(f, "{} → refused\n  {error}", self.route)?,
        }
        let spread = self.spread.iter();
        let spread: Vec<String> = spread.map(|(app, n)| format!("{n} to {app}")).collect();
        match spread.is_empty() {
            true => Ok(()),
            false => write!(f, "\n  of {KEYS} keys: {}", spread.join(", ")),
        }
    }
}

impl Serialize for Trial {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (app, hops, error) = match &self.outcome {
            Ok(resolved) => (Some(&resolved.app), Some(&resolved.hops), None),
            Err(error) => (None, None, Some(error.to_string())),
        };
        let trial = json!({
            "route": self.route, "app": app, "hops": hops, "flow": self.steps, "error": error, "spread": self.spread,
        });
        trial.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warmq_config::Settings;

    const FILE: &str = "
        [apps.'a/one']
        cost = 1
        [apps.'a/two']
        cost = 2
        [routes.'r/ab']
        kind = 'split'
        by = 'input.user'
        to = [{ app = 'a/one', weight = 80 }, { app = 'a/two', weight = 20 }]
        [routes.'r/size']
        kind = 'switch'
        default = 'a/two'
        rules = [{ when = 'input.width <= 512', to = 'a/one' }]
        [routes.'r/cheap']
        kind = 'switch'
        default = 'r/safe'
        rules = [{ when = \"apps['a/one'].cost < 2 && apps['a/one'].idle > 0\", to = 'a/one' }]
        [routes.'r/steps']
        kind = 'sequence'
        steps = [
          { name = 'draw', app = 'r/size', input = { width = 64, prompt = 'input.prompt' } },
          { name = 'cut', app = 'r/size', input = { url = 'steps.draw.output.url' }, timeout = '2m' },
          { name = 'check', app = 'r/safe' },
        ]
        output = { url = 'steps.cut.output.url' }
        [routes.'r/safe']
        kind = 'fallback'
        to = [{ app = 'a/one', timeout = 30, input = { width = 'input.width' } }, 'r/size']
    ";

    fn attempt_at(route: &str, input: Value) -> Trial {
        attempt_with(route, input, &[])
    }

    fn attempt_with(route: &str, input: Value, supposed: &[&str]) -> Trial {
        let mut settings = Settings::from_toml(FILE, "warmq.toml");
        let apps = Apps::read(&mut settings);
        let routes = Routes::read(&mut settings, &apps);
        let routes = settings.finish(Some(routes)).unwrap();
        let supposed: Vec<Supposed> = supposed.iter().map(|text| text.parse().unwrap()).collect();
        let sample = Sample {
            input,
            apps: standings(&apps, &supposed),
            ..Sample::default()
        };
        attempt(&routes, &AppId::parse(route).unwrap(), &sample)
    }

    #[test]
    fn a_split_is_tried_with_many_keys() {
        let trial = attempt_at("r/ab", json!({"user": "u"}));
        let counts: Vec<u32> = trial.spread.values().copied().collect();
        assert_eq!(counts.iter().sum::<u32>(), KEYS);
        assert!((7_800..8_200).contains(&counts[0]), "{counts:?}");
        assert!(trial.to_string().contains("of 10000 keys: "), "{trial}");
    }

    #[test]
    fn a_switch_says_which_rule_applied_or_why_it_refuses() {
        let trial = attempt_at("r/size", json!({"width": 64}));
        assert_eq!(
            trial.to_string(),
            "r/size → a/one\n  r/size (switch) → a/one: rule 1 of 1 applied: input.width <= 512"
        );
        let refused = attempt_at("r/size", json!({"width": "wide"}));
        assert!(
            refused.to_string().starts_with("r/size → refused\n"),
            "{refused}"
        );
        assert!(refused.spread.is_empty());
    }

    #[test]
    fn a_sequence_tells_its_steps_as_far_as_its_input_decides() {
        let trial = attempt_at("r/steps", json!({"prompt": "a fox", "width": 8}));
        assert_eq!(
            trial.to_string(),
            "r/steps → a sequence\n  \
             1. draw → r/size → a/one\n     \
                input: {\"prompt\":\"a fox\",\"width\":64}\n     \
                r/size (switch) → a/one: rule 1 of 1 applied: input.width <= 512\n  \
             2. cut → r/size → depends on earlier steps, within 2 min\n     \
                input, to be filled: {\"url\":\"steps.draw.output.url\"}\n  \
             3. check → r/safe (fallback)\n  \
             output: {\"url\":\"steps.cut.output.url\"}"
        );
        assert!(!trial.is_refused());
        let lacking = attempt_at("r/steps", json!({}));
        assert!(lacking.is_refused());
        let told = "\n  1. draw → r/size → refused\n     route r/steps, step draw, input.prompt (input.prompt): it asks for 'prompt', ";
        assert!(lacking.to_string().contains(told), "{lacking}");
    }

    #[test]
    fn a_fallback_is_found_behind_a_switch_that_looks_at_apps() {
        let input = || json!({"width": 600});
        assert_eq!(
            attempt_at("r/cheap", input()).outcome.unwrap().app.as_str(),
            "a/one"
        );
        let busy = attempt_with("r/cheap", input(), &["a/one=idle:0,queued:3"]);
        assert_eq!(
            busy.to_string(),
            "r/cheap → r/safe → a fallback\n  \
             r/cheap (switch) → r/safe: its rule did not apply\n  \
             1. a/one, within 30.0 s\n     \
                input: {\"width\":600}\n  \
             2. r/size → a/two\n     \
                r/size (switch) → a/two: its rule did not apply"
        );
        let json = serde_json::to_value(&busy).unwrap();
        assert_eq!(json["flow"]["steps"][0]["timeout_s"], 30.0);
        assert_eq!(json["flow"]["steps"][1]["app"], "a/two");
    }
}
