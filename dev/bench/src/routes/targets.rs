//! Targets of submissions: two apps, and a route of each kind to them.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

/// The apps.
pub const APPS: [&str; 2] = ["bench/a", "bench/b"];

/// The apps of the sequence's steps, in order.
pub const STEPS: [&str; 3] = [APPS[0], APPS[1], APPS[0]];

/// Routes in the chain: the maximum.
const HOPS: u32 = 8;

/// A target of submissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An app itself: the baseline.
    Direct,
    /// A switch with conditions over input and headers.
    Switch,
    /// A split by a field of the input.
    Split,
    /// Eight switches, each of which forwards to the next.
    Chain,
    /// A flow of one step, if that succeeds.
    Fallback,
    /// A flow of three steps.
    Sequence,
}

impl Target {
    /// All targets, the baseline first.
    pub const ALL: [Self; 6] = [
        Self::Direct,
        Self::Switch,
        Self::Split,
        Self::Chain,
        Self::Fallback,
        Self::Sequence,
    ];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => APPS[0],
            Self::Switch => "bench/switch",
            Self::Split => "bench/split",
            Self::Chain => "bench/chain-1",
            Self::Fallback => "bench/fallback",
            Self::Sequence => "bench/sequence",
        }
    }

    /// Returns the label in the table.
    pub fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct, to the app",
            Self::Switch => "switch, two conditions",
            Self::Split => "split by input.user_id",
            Self::Chain => "chain of 8 switches",
            Self::Fallback => "fallback (a flow)",
            Self::Sequence => "sequence of 3 (a flow)",
        }
    }
}

/// Returns the input of every submission: a run time in ms, and no load.
pub fn input(run_ms: u64, user: u64) -> Value {
    json!({"run_ms": run_ms, "load_ms": 0, "user_id": user, "width": 1024, "height": 768})
}

/// Returns the router's configuration.
pub fn toml() -> String {
    let mut toml = FILE.to_owned();
    for hop in 1..=HOPS {
        let next = match hop {
            HOPS => APPS[0].to_owned(),
            _ => format!("bench/chain-{}", hop + 1),
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            toml,
            "[routes.\"bench/chain-{hop}\"]\nkind = \"switch\"\n\
             rules = [{{ when = \"input.width > 4096\", to = \"bench/b\" }}]\ndefault = \"{next}\""
        );
    }
    toml
}

const FILE: &str = r#"
[apps."bench/a"]
[apps."bench/b"]

[routes."bench/switch"]
kind = "switch"
rules = [
  { when = "headers['x-plan'] == 'beta'", to = "bench/b" },
  { when = "input.?width.orValue(512) * input.?height.orValue(512) > 1048576", to = "bench/b" },
]
default = "bench/a"

[routes."bench/split"]
kind = "split"
to = [{ app = "bench/a", weight = 50 }, { app = "bench/b", weight = 50 }]
by = "input.user_id"

[routes."bench/fallback"]
kind = "fallback"
to = ["bench/a", "bench/b"]

[routes."bench/sequence"]
kind = "sequence"
steps = [
  { name = "draft", app = "bench/a", input = { run_ms = "input.run_ms", load_ms = 0 } },
  { name = "refine", app = "bench/b", input = { run_ms = "input.run_ms", load_ms = 0, from = "steps.draft.output" } },
  { name = "enlarge", app = "bench/a", input = { run_ms = "input.run_ms", load_ms = 0, from = "steps.refine.output" } },
]

"#;

#[cfg(test)]
mod tests {
    use super::*;
    use warmq_config::Settings;
    use warmq_router::routing_config::RoutingConfig;

    #[test]
    fn every_target_is_declared_and_the_chain_is_as_long_as_one_may_be() {
        let mut settings = Settings::from_toml(&toml(), "warmq.toml");
        let declared = RoutingConfig::read(&mut settings);
        let declared = settings.finish(Some(declared)).unwrap();
        for target in Target::ALL {
            let name = target.name().parse().unwrap();
            let is_app = declared.apps.names().any(|app| *app == name);
            assert!(is_app || declared.routes.get(&name).is_some(), "{name}");
        }
    }
}
