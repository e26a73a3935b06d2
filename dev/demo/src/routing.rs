//! The two policies of the demo.

use warmq_types::hint::{Hint, InvalidHint};

use crate::plan::{APP, PlannedJob};

/// How the jobs of a run are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// Jobs have hints, and policy `warm` places them.
    Warm,
    /// A plain queue: jobs have no hints, and the runners share one queue.
    Shared,
}

impl Routing {
    /// Returns `warm` or `shared`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Shared => "shared",
        }
    }

    /// Returns the `warmq.toml` of the run.
    pub fn config(self) -> String {
        // Policy `fal` sends jobs without hints to the shared queue at once. Their inputs still
        // name models.
        match self {
            Self::Warm => String::new(),
            Self::Shared => {
                format!("[apps.\"{APP}\"]\npolicy = \"fal\"\nhint_from = \"header\"\n")
            }
        }
    }

    /// Returns the hint of `planned`.
    ///
    /// # Errors
    /// The model's name is not a valid hint.
    pub fn hint(self, planned: &PlannedJob) -> Result<Option<Hint>, InvalidHint> {
        match self {
            Self::Warm => Hint::parse(planned.model).map(Some),
            Self::Shared => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;
    use warmq_config::{Apps, Settings};
    use warmq_types::ids::AppId;
    use warmq_types::policy_name::PolicyName;

    #[test]
    fn only_the_warm_run_gives_hints_and_both_configurations_are_valid() {
        let planned = plan::jobs()[0];
        assert!(Routing::Warm.hint(&planned).unwrap().is_some());
        assert!(Routing::Shared.hint(&planned).unwrap().is_none());
        for (routing, policy) in [
            (Routing::Warm, PolicyName::Warm),
            (Routing::Shared, PolicyName::Fal),
        ] {
            let mut settings = Settings::from_toml(&routing.config(), "warmq.toml");
            let apps = Apps::read(&mut settings);
            settings.finish(Some(())).unwrap();
            assert_eq!(apps.get(&AppId::parse(APP).unwrap()).policy, policy);
        }
    }
}
