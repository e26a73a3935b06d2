//! Where routes would send a submission, tried out without a router.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};
use warmq_common::ids::{AppId, JobId};
use warmq_common::route::RouteKind;
use warmq_routes::{Asked, Draw, Error, Resolved, Routes};

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
}

/// What became of it at one route.
#[derive(Debug)]
pub struct Trial {
    /// The route that it was submitted to.
    pub route: AppId,
    /// The app that it would go to, and why; or why it would be refused.
    pub outcome: Result<Resolved, Error>,
    /// Of [`KEYS`] submissions that are like it but for their keys, those that would go to each app. Empty if no split is on
    /// its way.
    pub spread: BTreeMap<AppId, u32>,
}

/// Submits `sample` to `route`, as if.
pub fn attempt(routes: &Routes, route: &AppId, sample: &Sample) -> Trial {
    let job = JobId::generate().to_string();
    let outcome = resolve(routes, route, sample, Draw::Job(&job));
    let is_split =
        |resolved: &Resolved| (resolved.hops.iter()).any(|hop| hop.kind == RouteKind::Split);
    let mut spread = BTreeMap::new();
    if outcome.as_ref().is_ok_and(is_split) {
        for key in 0..KEYS {
            let key = key.to_string();
            if let Ok(resolved) = resolve(routes, route, sample, Draw::Everywhere(&key)) {
                *spread.entry(resolved.app).or_default() += 1;
            }
        }
    }
    Trial {
        route: route.clone(),
        outcome,
        spread,
    }
}

fn resolve(
    routes: &Routes,
    route: &AppId,
    sample: &Sample,
    draw: Draw<'_>,
) -> Result<Resolved, Error> {
    let asked = Asked {
        input: &sample.input,
        headers: &sample.headers,
        key: &sample.key,
        apps: &BTreeMap::new(),
        steps: &BTreeMap::new(),
        draw,
    };
    routes.resolve(route, &asked)
}

impl fmt::Display for Trial {
    /// Several lines, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(resolved) => {
                write!(f, "{} → {}", self.route, resolved.app)?;
                for hop in &resolved.hops {
                    let kind = hop.kind.as_str();
                    write!(f, "\n  {} ({kind}) → {}: {}", hop.route, hop.to, hop.reason)?;
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
            "route": self.route, "app": app, "hops": hops, "error": error, "spread": self.spread,
        });
        trial.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warmq_common::config::{Apps, Settings};

    const FILE: &str = "
        [apps.'a/one']
        [apps.'a/two']
        [routes.'r/ab']
        kind = 'split'
        by = 'input.user'
        to = [{ app = 'a/one', weight = 80 }, { app = 'a/two', weight = 20 }]
        [routes.'r/size']
        kind = 'switch'
        default = 'a/two'
        rules = [{ when = 'input.width <= 512', to = 'a/one' }]
    ";

    fn attempt_at(route: &str, input: Value) -> Trial {
        let mut settings = Settings::from_toml(FILE, "warmq.toml");
        let apps = Apps::read(&mut settings);
        let routes = Routes::read(&mut settings, &apps);
        let routes = settings.finish(Some(routes)).unwrap();
        let sample = Sample {
            input,
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
}
