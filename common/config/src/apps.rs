//! Settings of each app: `[apps."owner/name"]`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use warmq_types::hint_path::HintPath;
use warmq_types::ids::AppId;
use warmq_types::job::MAX_ATTEMPTS;
use warmq_types::policy_name::PolicyName;

use super::scaling::{ScalingConfig, ScalingSettings};
use super::size::ByteSize;
use super::{DurationSetting, KeepFor, SettingPath, Settings};

/// Minimum retention of records: parked copies and redeliveries of a job arrive earlier.
pub const SHORTEST_RETENTION: Duration = Duration::from_secs(60);

/// Source of a job's hint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HintFrom {
    /// The input field that the engine's schema marks, otherwise the header.
    #[default]
    Schema,
    /// This input field, otherwise the header.
    Field(HintPath),
    /// The header alone: `header`.
    Header,
}

impl FromStr for HintFrom {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "header" => Ok(Self::Header),
            path => path.parse().map(Self::Field),
        }
    }
}

/// Entry of [`AppConfig::image_models`] that stands for every model.
const ANY_MODEL: &str = "*";

/// Settings of one app; the defaults apply to an app that the file does not name.
#[derive(Debug, Clone, PartialEq)]
pub struct AppConfig {
    /// Routing policy.
    pub policy: PolicyName,
    /// Source of its jobs' hints.
    pub hint_from: HintFrom,
    /// Maximum hold for a warm runner, unless the job has its own; the policy's if unset.
    pub max_warm_wait: Option<Duration>,
    /// Maximum duration of an attempt, loading included; unlimited if unset.
    pub run_timeout: Option<Duration>,
    /// Maximum number of attempts; lost runners, timeouts and faults of runners count.
    pub max_attempts: u32,
    /// Expected duration of a run before any was measured.
    pub prior_run: Duration,
    /// Expected duration of a load before any was measured.
    pub prior_load: Duration,
    /// Retention of record and result after the end; at least [`SHORTEST_RETENTION`].
    pub retention: Duration,
    /// How long files of its jobs are kept beyond their records, from their creation on.
    pub keep_files: KeepFor,
    /// Total size of its jobs' files above which the oldest ones are deleted; unlimited if unset.
    pub max_files: Option<ByteSize>,
    /// Submissions are refused while this many jobs wait; unlimited if unset.
    pub max_queue_length: Option<u64>,
    /// Cost of a job in a unit of the operator's, for conditions of routes; 0 if unset.
    pub cost: f64,
    /// How long a job may wait for a model that no runner lists; such jobs are refused if unset.
    pub wait_for_model: Option<Duration>,
    /// Models of OpenAI's images API that it serves; `*`: any that no other app names.
    pub image_models: Vec<String>,
    /// How its number of runners follows its work; not at all if unset.
    pub scaling: Option<ScalingConfig>,
}

impl Default for AppConfig {
    fn default() -> Self {
        Self {
            policy: PolicyName::default(),
            hint_from: HintFrom::default(),
            max_warm_wait: None,
            run_timeout: None,
            max_attempts: MAX_ATTEMPTS,
            prior_run: Duration::from_secs(2),
            prior_load: Duration::from_secs(10),
            retention: Duration::from_secs(24 * 3600),
            keep_files: KeepFor::Time(Duration::ZERO),
            max_files: None,
            max_queue_length: None,
            cost: 0.0,
            wait_for_model: None,
            image_models: Vec::new(),
            scaling: None,
        }
    }
}

/// The apps in the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Apps(BTreeMap<AppId, DeclaredApp>);

/// An app in the file.
#[derive(Debug, Clone)]
struct DeclaredApp {
    config: AppConfig,
    /// The table that it was read from.
    source_table: toml::Table,
}

impl PartialEq for DeclaredApp {
    /// Compares values, not spelling.
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

impl Apps {
    /// Reads `[apps]`; problems are collected in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let mut apps = BTreeMap::new();
        let all = SettingPath::of("apps");
        for (name, entry) in settings.table("apps").unwrap_or_default() {
            let path = all.key(&name);
            let id = AppId::parse(&name)
                .map_err(|error| settings.problem_at(&path, error))
                .ok();
            let toml::Value::Table(entry) = entry else {
                settings.problem_at(&path, "expected a table");
                continue;
            };
            let source_table = entry.clone();
            let config = read_app(settings, &path, entry);
            if let Some(id) = id {
                let app = DeclaredApp {
                    config,
                    source_table,
                };
                apps.insert(id, app);
            }
        }
        Self(apps)
    }

    /// Returns the settings of `app`: the file's, or the defaults.
    pub fn get(&self, app: &AppId) -> AppConfig {
        let declared = self.0.get(app);
        declared.map(|app| app.config.clone()).unwrap_or_default()
    }

    /// Returns the app that serves a model of OpenAI's images API, if one names it.
    pub fn of_image_model(&self, model: &str) -> Option<&AppId> {
        let naming = |name: &str| {
            let mut apps = self.0.iter();
            let found = apps.find(|(_, app)| app.config.image_models.iter().any(|own| own == name));
            found.map(|(app, _)| app)
        };
        naming(model).or_else(|| naming(ANY_MODEL))
    }

    /// Returns the table of `app` as written in the file, if any.
    pub fn source_table(&self, app: &AppId) -> Option<&toml::Table> {
        self.0.get(app).map(|app| &app.source_table)
    }

    /// Returns the apps of the file, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &AppId> {
        self.0.keys()
    }
}

fn read_app(settings: &mut Settings, path: &SettingPath, entry: toml::Table) -> AppConfig {
    let mut config = AppConfig::default();
    let (mut scaling, has_max) = (ScalingSettings::default(), entry.contains_key("max"));
    for (key, value) in entry {
        let set = match key.as_str() {
            "policy" => text(&value).map(|policy| config.policy = policy),
            "hint_from" => text(&value).map(|path| config.hint_from = path),
            "max_warm_wait" => time(&value).map(|time| config.max_warm_wait = Some(time)),
            "run_timeout" => positive_time(&value).map(|time| config.run_timeout = Some(time)),
            "max_attempts" => count(&value).map(|count| config.max_attempts = count),
            "prior_run" => positive_time(&value).map(|time| config.prior_run = time),
            "prior_load" => positive_time(&value).map(|time| config.prior_load = time),
            "retention" => retention(&value).map(|time| config.retention = time),
            "keep_files" => text(&value).map(|keep| config.keep_files = keep),
            "max_files" => text(&value).map(|size| config.max_files = Some(size)),
            "max_queue_length" => length(&value).map(|most| config.max_queue_length = Some(most)),
            "wait_for_model" => {
                positive_time(&value).map(|time| config.wait_for_model = Some(time))
            }
            "image_models" => names(&value).map(|names| config.image_models = names),
            "min" => whole_number(&value).map(|count| scaling.min = Some(count)),
            "max" => count(&value).map(|count| scaling.max = Some(count)),
            "keep_alive" => time(&value).map(|time| scaling.keep_alive = Some(time)),
            "scale_target" => positive_time(&value).map(|time| scaling.target = Some(time)),
            "cost" => cost(&value).map(|cost| config.cost = cost),
            _ => Err("unknown setting".to_owned()),
        };
        if let Err(problem) = set {
            settings.problem_at(&path.key(&key), problem);
        }
    }
    config.scaling = scaling.finish(has_max, settings, path);
    config
}

fn text<T: FromStr<Err = String>>(value: &toml::Value) -> Result<T, String> {
    value.as_str().ok_or("expected text")?.parse()
}

fn time(value: &toml::Value) -> Result<Duration, String> {
    DurationSetting::from_toml(value).map(DurationSetting::duration)
}

fn whole_number(value: &toml::Value) -> Result<u32, String> {
    let number = value.as_integer().and_then(|number| number.try_into().ok());
    number.ok_or_else(|| "expected a whole number, at least 0".to_owned())
}

/// Parses a whole number, at least 1.
fn count(value: &toml::Value) -> Result<u32, String> {
    let number = value.as_integer().and_then(|number| number.try_into().ok());
    number
        .filter(|number| *number > 0)
        .ok_or_else(|| "expected a whole number, at least 1".to_owned())
}

fn positive_time(value: &toml::Value) -> Result<Duration, String> {
    DurationSetting::nonzero_from_toml(value).map(DurationSetting::duration)
}

fn retention(value: &toml::Value) -> Result<Duration, String> {
    match time(value)? {
        time if time < SHORTEST_RETENTION => Err(format!(
            "must be at least {} s: otherwise a redelivered message could run the job again",
            SHORTEST_RETENTION.as_secs()
        )),
        time => Ok(time),
    }
}

fn cost(value: &toml::Value) -> Result<f64, String> {
    let number = match value {
        toml::Value::Integer(number) => Some(*number as f64),
        toml::Value::Float(number) => Some(*number),
        _ => None,
    };
    number
        .filter(|cost| cost.is_finite() && *cost >= 0.0)
        .ok_or_else(|| "expected a number, at least 0".to_owned())
}

fn names(value: &toml::Value) -> Result<Vec<String>, String> {
    let names = value
        .as_array()
        .map(|names| names.iter().map(toml::Value::as_str));
    let names: Option<Vec<&str>> = names.and_then(Iterator::collect);
    match names {
        Some(names) if !names.contains(&"") => Ok(names.into_iter().map(str::to_owned).collect()),
        _ => Err("expected a list of names".to_owned()),
    }
}

fn length(value: &toml::Value) -> Result<u64, String> {
    match value.as_integer().map(u64::try_from) {
        Some(Ok(length)) if length > 0 => Ok(length),
        _ => Err("expected a number of jobs, at least 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn an_app_that_the_file_names_has_its_settings() {
        let mut settings =
            Settings::from_toml("[apps.'a/b']\nhint_from = 'input.model'", "warmq.toml");
        let apps = Apps::read(&mut settings);
        settings.finish(Some(())).unwrap();
        let hint_from = apps.get(&AppId::parse("a/b").unwrap()).hint_from;
        let HintFrom::Field(path) = hint_from else {
            panic!("{hint_from:?}")
        };
        assert_eq!("header".parse(), Ok(HintFrom::Header));
        let hint = |input: Value| path.hint(&input).unwrap().map(String::from);
        assert_eq!(hint(json!({"model": "shapes"})), Some("shapes".to_owned()));
        assert_eq!(hint(json!({"model": 7})), None);
        assert_eq!(hint(json!([])), None);
    }

    #[test]
    fn every_mistake_in_every_app_is_reported() {
        let text = "[apps.'A']\n[apps.'a/b']\npolicy = 'luck'\nhint_from = 'model'\nspeed = 9\n\
                    max_warm_wait = -1\nprior_run = 0\nprior_load = '0ms'\nmax_attempts = 0\n\
                    [apps.'a/c']\nmax_warm_wait = inf\nprior_run = true\nrun_timeout = 0\nmax_attempts = 2.5\n\
                    [apps.'a/d']\nretention = '59s'\nmax_queue_length = 0\n\
                    [apps.'a/e']\nretention = 'long'\nmax_queue_length = '9'\n\
                    [apps.'a/f']\nretention = '25h'\nmax_queue_length = -1\ncost = -1\n\
                    [apps.'a/g']\ncost = 'dear'";
        let mut settings = Settings::from_toml(text, "warmq.toml");
        Apps::read(&mut settings);
        let problems = settings.finish(Some(())).unwrap_err();
        assert_eq!(problems.sentences().len(), 20, "{problems}");
        let luck = "warmq.toml, line 3, column 10: apps.\"a/b\".policy: unknown policy 'luck'";
        assert!(problems.to_string().contains(luck), "{problems}");
    }

    #[test]
    fn an_image_model_leads_to_the_app_that_names_it_or_to_the_one_for_all() {
        let text =
            "[apps.'a/b']\nimage_models = ['sdxl', 'flux']\n[apps.'a/c']\nimage_models = ['*']\n";
        let apps = Apps::read(&mut Settings::from_toml(text, "warmq.toml"));
        let app = |model| apps.of_image_model(model).map(AppId::as_str);
        assert_eq!(app("flux"), Some("a/b"));
        assert_eq!(app("dall-e-3"), Some("a/c"));
        assert_eq!(Apps::default().of_image_model("flux"), None);
        for wrong in ["'sdxl'", "[1]", "['']"] {
            let text = format!("[apps.'a/b']\nimage_models = {wrong}");
            let mut settings = Settings::from_toml(&text, "warmq.toml");
            Apps::read(&mut settings);
            assert!(settings.finish(Some(())).is_err(), "{wrong}");
        }
    }

    #[test]
    fn apps_with_equal_settings_are_equal() {
        let read = |text: &str| Apps::read(&mut Settings::from_toml(text, "warmq.toml"));
        let apps = read("[apps.'a/b']\nprior_run = 0.5");
        assert_eq!(apps, read("[apps]\n'a/b' = { prior_run = '500ms' }"));
        assert_ne!(apps, read("[apps.'a/b']"));
        let written = apps.source_table(&AppId::parse("a/b").unwrap()).unwrap();
        assert_eq!(written["prior_run"].as_float(), Some(0.5));
    }

    #[test]
    fn times_may_have_units() {
        let text = "[apps.'a/b']\nmax_warm_wait = '500ms'\nprior_run = 0.2\nprior_load = 1\n\
                    retention = '1.5h'\nmax_queue_length = 9\nrun_timeout = '5m'\nmax_attempts = 3";
        let mut settings = Settings::from_toml(text, "warmq.toml");
        let apps = Apps::read(&mut settings);
        settings.finish(Some(())).unwrap();
        let app = apps.get(&AppId::parse("a/b").unwrap());
        assert_eq!(app.max_warm_wait, Some(Duration::from_millis(500)));
        assert_eq!(app.run_timeout, Some(Duration::from_secs(300)));
        assert_eq!(app.max_attempts, 3);
        assert_eq!(app.prior_run, Duration::from_millis(200));
        assert_eq!(app.prior_load, Duration::from_secs(1));
        assert_eq!(app.retention, Duration::from_secs(5400));
        assert_eq!(app.max_queue_length, Some(9));
    }
}
