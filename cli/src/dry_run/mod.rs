//! Dry run: where routes would send a submission, without a router.
//!
//! | module | contents |
//! | --- | --- |
//! | `steps` | the steps of a flow, as far as its input determines them |
//! | `assumptions` | the assumed load of apps |

mod assumptions;
mod steps;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};
use warmq_config::Apps;
use warmq_rules::{AppLoadEstimate, Draw, Error, Resolved, RouteRequest, Routes};
use warmq_types::ids::{AppId, JobId};
use warmq_types::route::{Hop, RouteKind};

pub use self::assumptions::{AppAssumption, load};
pub use self::steps::{FlowDryRun, StepDryRun};

/// Number of keys that splits are tried with.
pub const SPLIT_KEYS: u32 = 10_000;

/// A sample submission.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The input.
    pub input: Value,
    /// Headers, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The id of the API key.
    pub key: String,
    /// The assumed load of the file's apps.
    pub apps: BTreeMap<AppId, AppLoadEstimate>,
}

/// The result for one route.
#[derive(Debug)]
pub struct DryRun {
    /// The route that the sample was submitted to.
    pub route: AppId,
    /// The app, or the route of the flow, that the submission would go to and why; or why it would
    /// be rejected.
    pub outcome: Result<Resolved, Error>,
    /// The steps of the flow, if it becomes one.
    pub steps: Option<FlowDryRun>,
    /// Number of submissions, of [`SPLIT_KEYS`] with different keys, that would go to each app or
    /// flow. Empty without a split.
    pub spread: BTreeMap<AppId, u32>,
}

/// Resolves `sample` at `route`.
pub fn attempt(routes: &Routes, route: &AppId, sample: &Sample) -> DryRun {
    let job = JobId::generate().to_string();
    let outcome = resolve(routes, route, sample, Draw::Job(&job));
    let is_split =
        |resolved: &Resolved| (resolved.hops.iter()).any(|hop| hop.kind == RouteKind::Split);
    let mut spread = BTreeMap::new();
    if outcome.as_ref().is_ok_and(is_split) {
        for key in 0..SPLIT_KEYS {
            let key = key.to_string();
            if let Ok(resolved) = resolve(routes, route, sample, Draw::Everywhere(&key)) {
                *spread.entry(resolved.app).or_default() += 1;
            }
        }
    }
    let flow = (outcome.as_ref().ok()).and_then(|resolved| routes.flow(&resolved.app));
    DryRun {
        route: route.clone(),
        steps: flow.map(|flow| FlowDryRun::of(routes, &flow, sample)),
        outcome,
        spread,
    }
}

impl DryRun {
    /// Returns whether the submission would be rejected, or certainly fail in a step.
    pub fn is_refused(&self) -> bool {
        let steps = self.steps.as_ref();
        self.outcome.is_err() || steps.is_some_and(|steps| steps.error().is_some())
    }
}

/// Returns the load of the file's apps: the assumptions, otherwise an idle app.
pub fn assumed_loads(
    apps: &Apps,
    assumptions: &[AppAssumption],
) -> BTreeMap<AppId, AppLoadEstimate> {
    let mut assumed_loads = BTreeMap::new();
    for name in apps.names() {
        let config = apps.get(name);
        let assumed = assumptions
            .iter()
            .rfind(|assumptions| assumptions.app == *name);
        let load = assumed.map_or_else(|| load(&config), |assumed| assumed.load(&config));
        assumed_loads.insert(name.clone(), load);
    }
    assumed_loads
}

/// Resolves `sample`.
fn resolve(
    routes: &Routes,
    route: &AppId,
    sample: &Sample,
    draw: Draw<'_>,
) -> Result<Resolved, Error> {
    with_request(sample, draw, |request| {
        warmq_rules::resolve(routes, route, request)
    })
}

/// Calls `ask` with `sample` as expressions see it.
fn with_request<T>(sample: &Sample, draw: Draw<'_>, ask: impl FnOnce(&RouteRequest<'_>) -> T) -> T {
    ask(&RouteRequest {
        input: &sample.input,
        headers: &sample.headers,
        key: &sample.key,
        apps: &sample.apps,
        steps: &BTreeMap::new(),
        draw,
    })
}

/// Formats `acme/images (switch) → acme/small: rule 1 of 2 applied: …`
fn format_hop(hop: &Hop) -> String {
    let kind = hop.kind.as_str();
    format!("{} ({kind}) → {}: {}", hop.route, hop.to, hop.reason)
}

impl fmt::Display for DryRun {
    /// Formats several lines, without a trailing line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(resolved) => {
                let mut names = vec![self.route.to_string(), resolved.app.to_string()];
                let kind = self.steps.as_ref().map(|steps| steps.kind);
                names.extend(kind.map(|kind| format!("a {}", kind.as_str())));
                names.dedup();
                write!(f, "{}", names.join(" → "))?;
                for hop in &resolved.hops {
                    write!(f, "\n  {}", format_hop(hop))?;
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
            false => write!(f, "\n  of {SPLIT_KEYS} keys: {}", spread.join(", ")),
        }
    }
}

impl Serialize for DryRun {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (app, hops, error) = match &self.outcome {
            Ok(resolved) => (Some(&resolved.app), Some(&resolved.hops), None),
            Err(error) => (None, None, Some(error.to_string())),
        };
        let dry_run = json!({
            "route": self.route, "app": app, "hops": hops, "flow": self.steps, "error": error, "spread": self.spread,
        });
        dry_run.serialize(serializer)
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

    fn attempt_at(route: &str, input: Value) -> DryRun {
        attempt_with(route, input, &[])
    }

    fn attempt_with(route: &str, input: Value, assumptions: &[&str]) -> DryRun {
        let mut settings = Settings::from_toml(FILE, "warmq.toml");
        let apps = Apps::read(&mut settings);
        let routes = Routes::read(&mut settings, &apps);
        let routes = settings.finish(Some(routes)).unwrap();
        let assumptions: Vec<AppAssumption> = assumptions
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let sample = Sample {
            input,
            apps: assumed_loads(&apps, &assumptions),
            ..Sample::default()
        };
        attempt(&routes, &AppId::parse(route).unwrap(), &sample)
    }

    #[test]
    fn a_split_is_tried_with_many_keys() {
        let dry_run = attempt_at("r/ab", json!({"user": "u"}));
        let counts: Vec<u32> = dry_run.spread.values().copied().collect();
        assert_eq!(counts.iter().sum::<u32>(), SPLIT_KEYS);
        assert!((7_800..8_200).contains(&counts[0]), "{counts:?}");
        assert!(dry_run.to_string().contains("of 10000 keys: "), "{dry_run}");
    }

    #[test]
    fn a_switch_names_the_applied_rule_or_its_refusal() {
        let dry_run = attempt_at("r/size", json!({"width": 64}));
        assert_eq!(
            dry_run.to_string(),
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
    fn a_sequence_lists_its_steps_as_far_as_its_input_decides() {
        let dry_run = attempt_at("r/steps", json!({"prompt": "a fox", "width": 8}));
        assert_eq!(
            dry_run.to_string(),
            "r/steps → a sequence\n  \
             1. draw → r/size → a/one\n     \
                input: {\"prompt\":\"a fox\",\"width\":64}\n     \
                r/size (switch) → a/one: rule 1 of 1 applied: input.width <= 512\n  \
             2. cut → r/size → depends on earlier steps, within 2 min\n     \
                input, to be filled: {\"url\":\"steps.draw.output.url\"}\n  \
             3. check → r/safe (fallback)\n  \
             output: {\"url\":\"steps.cut.output.url\"}"
        );
        assert!(!dry_run.is_refused());
        let lacking = attempt_at("r/steps", json!({}));
        assert!(lacking.is_refused());
        let expected = "\n  1. draw → r/size → refused\n     route r/steps, step draw, input.prompt (input.prompt): 'prompt' is absent";
        assert!(lacking.to_string().contains(expected), "{lacking}");
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
