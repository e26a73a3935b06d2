//! Names and limits of schedulers. `sampling` implements them.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A scheduler. `EulerAncestral`, `Ddpm`, `Kdpm2Ancestral` and `Lcm` draw fresh noise at every
/// step;
/// `Heun`, `Kdpm2` and `Kdpm2Ancestral` call the UNet twice for each step but one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[allow(missing_docs, reason = "the names are the algorithms'")]
pub enum SchedulerKind {
    Ddim,
    Ddpm,
    DpmSolverPlusPlus,
    Euler,
    EulerAncestral,
    FlowMatchEuler,
    Heun,
    Kdpm2,
    Kdpm2Ancestral,
    Lcm,
    Lms,
    Pndm,
    UniPc,
}

impl SchedulerKind {
    /// All schedulers.
    pub const ALL: [SchedulerKind; 13] = [
        SchedulerKind::Ddim,
        SchedulerKind::Ddpm,
        SchedulerKind::DpmSolverPlusPlus,
        SchedulerKind::Euler,
        SchedulerKind::EulerAncestral,
        SchedulerKind::FlowMatchEuler,
        SchedulerKind::Heun,
        SchedulerKind::Kdpm2,
        SchedulerKind::Kdpm2Ancestral,
        SchedulerKind::Lcm,
        SchedulerKind::Lms,
        SchedulerKind::Pndm,
        SchedulerKind::UniPc,
    ];

    /// Returns the name in manifests and requests.
    pub fn name(self) -> &'static str {
        match self {
            SchedulerKind::Ddim => "ddim",
            SchedulerKind::Ddpm => "ddpm",
            SchedulerKind::DpmSolverPlusPlus => "dpmsolver++",
            SchedulerKind::Euler => "euler",
            SchedulerKind::EulerAncestral => "euler-a",
            SchedulerKind::FlowMatchEuler => "flow-match-euler",
            SchedulerKind::Heun => "heun",
            SchedulerKind::Kdpm2 => "kdpm2",
            SchedulerKind::Kdpm2Ancestral => "kdpm2-a",
            SchedulerKind::Lcm => "lcm",
            SchedulerKind::Lms => "lms",
            SchedulerKind::Pndm => "pndm",
            SchedulerKind::UniPc => "unipc",
        }
    }

    /// Returns the supported numbers of steps. Those of diffusers-rs need at least two; half of the
    /// training steps is more than enough.
    pub fn steps(self) -> RangeInclusive<u32> {
        match self {
            // As many as the distillation had.
            SchedulerKind::Lcm => 1..=50,
            SchedulerKind::Kdpm2 | SchedulerKind::Kdpm2Ancestral | SchedulerKind::Lms => 2..=500,
            _ => 1..=500,
        }
    }

    /// Returns whether it needs a flow, as FLUX.1 has; the others need a noise schedule.
    pub fn needs_flow(self) -> bool {
        self == SchedulerKind::FlowMatchEuler
    }

    /// Returns whether it can start from a noised picture instead of from noise. `Lms` cannot: from
    /// its first step on it weighs previous steps, which did not run.
    pub fn supports_image(self) -> bool {
        self != SchedulerKind::Lms
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SchedulerKind {
    type Err = String;

    fn from_str(name: &str) -> Result<SchedulerKind, String> {
        let found = SchedulerKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name);
        found.ok_or_else(|| {
            let known = SchedulerKind::ALL.map(SchedulerKind::name).join(", ");
            format!("unknown scheduler {name:?}; known: {known}")
        })
    }
}

impl From<SchedulerKind> for String {
    fn from(kind: SchedulerKind) -> String {
        kind.name().to_owned()
    }
}

impl TryFrom<String> for SchedulerKind {
    type Error = String;

    fn try_from(name: String) -> Result<SchedulerKind, String> {
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheduler_is_read_back_from_its_name() {
        for kind in SchedulerKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!(
            "DDIM"
                .parse::<SchedulerKind>()
                .unwrap_err()
                .contains("dpmsolver++")
        );
    }
}
