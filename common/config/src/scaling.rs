//! How an app's number of runners follows its work: `min`, `max`, `keep_alive`, `scale_target`.

use std::time::Duration;

use super::{SettingPath, Settings};

/// Default of [`ScalingConfig::keep_alive`].
const KEEP_ALIVE: Duration = Duration::from_secs(5 * 60);

/// Default of [`ScalingConfig::target`].
const TARGET: Duration = Duration::from_secs(30);

/// Bounds and times of an app's number of runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalingConfig {
    /// Number of runners wanted without any work.
    pub min: u32,
    /// Maximum number of wanted runners.
    pub max: u32,
    /// How long runners that are no longer needed stay.
    pub keep_alive: Duration,
    /// Time in which the waiting jobs are to be worked off.
    pub target: Duration,
}

/// The settings as written.
#[derive(Debug, Default)]
pub(super) struct ScalingSettings {
    pub(super) min: Option<u32>,
    pub(super) max: Option<u32>,
    pub(super) keep_alive: Option<Duration>,
    pub(super) target: Option<Duration>,
}

impl ScalingSettings {
    /// Returns `None` without `max`. Problems between the settings are collected. `has_max`:
    /// whether the table contains `max`, valid or not.
    pub(super) fn finish(
        self,
        has_max: bool,
        settings: &mut Settings,
        path: &SettingPath,
    ) -> Option<ScalingConfig> {
        let Some(max) = self.max else {
            let others = [
                ("min", self.min.is_some()),
                ("keep_alive", self.keep_alive.is_some()),
                ("scale_target", self.target.is_some()),
            ];
            for (key, is_set) in others {
                if is_set && !has_max {
                    settings.problem_at(&path.key(key), "has no effect without `max`");
                }
            }
            return None;
        };
        let min = self.min.unwrap_or(0);
        if min > max {
            settings.problem_at(&path.key("min"), format_args!("exceeds `max`, {max}"));
        }
        Some(ScalingConfig {
            min,
            max,
            keep_alive: self.keep_alive.unwrap_or(KEEP_ALIVE),
            target: self.target.unwrap_or(TARGET),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Apps;
    use warmq_types::ids::AppId;

    fn read(table: &str) -> Result<Option<ScalingConfig>, String> {
        let text = format!("[apps.'a/b']\n{table}");
        let mut settings = Settings::from_toml(&text, "warmq.toml");
        let apps = Apps::read(&mut settings);
        let scaling = apps.get(&AppId::parse("a/b").unwrap()).scaling;
        let read = settings.finish(Some(scaling));
        read.map_err(|problems| problems.to_string())
    }

    #[test]
    fn an_app_with_max_is_scaled() {
        assert_eq!(read("policy = 'fal'"), Ok(None));
        let defaults = ScalingConfig {
            min: 0,
            max: 4,
            keep_alive: KEEP_ALIVE,
            target: TARGET,
        };
        assert_eq!(read("max = 4"), Ok(Some(defaults)));
        let all = "min = 2\nmax = 2\nkeep_alive = 0\nscale_target = '1m'";
        let expected = ScalingConfig {
            min: 2,
            max: 2,
            keep_alive: Duration::ZERO,
            target: Duration::from_secs(60),
        };
        assert_eq!(read(all), Ok(Some(expected)));
    }

    #[test]
    fn settings_that_contradict_each_other_are_reported_by_name() {
        for (table, problems) in [
            (
                "min = 3\nmax = 2",
                &["line 2, column 7: apps.\"a/b\".min: exceeds `max`, 2"] as &[_],
            ),
            (
                "min = 1\nkeep_alive = '5m'\nscale_target = 10",
                &[
                    "min: has no effect without `max`",
                    "keep_alive: has no effect",
                    "scale_target: has no effect",
                ],
            ),
            (
                "min = 1\nmax = 0",
                &["max: expected a whole number, at least 1"],
            ),
            (
                "min = -1\nmax = 'many'\nkeep_alive = 'long'\nscale_target = 0",
                &[
                    "min: expected a whole number",
                    "max: expected a whole number",
                    "'long' is not a valid duration",
                    "scale_target: must be greater than 0",
                ],
            ),
        ] {
            let found = read(table).unwrap_err();
            for problem in problems {
                assert!(found.contains(problem), "{table}: {found}");
            }
            assert_eq!(found.matches("\n  - ").count(), problems.len(), "{found}");
        }
    }
}
