//! Settings from flags, `WARMQ_*` variables and `warmq.toml`, in this order of precedence.
//!
//! Every flag arrives as text and is parsed here, not by the argument parser, so that *all*
//! mistakes are reported at once, each with the name of its setting.

mod apps;
mod command_line;
mod duration_setting;
mod keep_for;
mod scaling;
mod secret;
mod servers;
mod setting_path;
mod size;
mod source_location;

pub use apps::{AppConfig, Apps, HintFrom, SHORTEST_RETENTION};
pub use command_line::CommandLine;
pub use duration_setting::DurationSetting;
pub use keep_for::KeepFor;
pub use scaling::ScalingConfig;
pub use secret::SecretText;
pub use servers::{ServerArgs, Servers};
pub use setting_path::SettingPath;
pub use size::ByteSize;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use source_location::SourceLocations;

/// Exit status for invalid settings (`EX_USAGE` of sysexits.h).
pub const EXIT_BAD_CONFIG: u8 = 64;

/// Exit status for an unavailable server, address or device (`EX_UNAVAILABLE`).
pub const EXIT_UNAVAILABLE: u8 = 69;

/// The file that is read without `--config`, if it exists.
pub const DEFAULT_FILE: &str = "warmq.toml";

/// Top-level settings of all warmq processes, which share the file.
const KNOWN: &[&str] = &[
    "namespace",
    "amqp_url",
    "redis_url",
    "storage",
    "queue_type",
    "consumer_timeout",
    "otlp_endpoint",
    "listen",
    "public_url",
    "tls_cert",
    "tls_key",
    "max_connections",
    "roles",
    "max_body",
    "max_upload",
    "reconcile_after",
    "forget_apps_after",
    "keep_uploads",
    "cleanup_interval",
    "scale_hook",
    "allow_anonymous",
    "admin_key",
    "app",
    "engine",
    "models",
    "only",
    "loras",
    "lora_cache",
    "lora_cache_size",
    "memory_budget",
    "ram_budget",
    "preload",
    "pin",
    "device",
    "concurrency",
    "slots",
    "upstream",
    "upstream_path",
    "upstream_timeout",
    "health_path",
    "spawn",
    "fal",
    "python",
    "startup_timeout",
    "runner_name",
    "accept_timeout_ms",
    "drain_timeout_s",
    "hang_grace_s",
    "fetch_allow",
    "metrics_listen",
    "apps",
    "routes",
];

/// All mistakes of a configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Adds a mistake.
    pub fn push(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Returns one sentence per mistake.
    pub fn sentences(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "the configuration has a mistake:\n  - {one}"),
            many => write!(
                f,
                "the configuration has {} mistakes:\n  - {}",
                many.len(),
                many.join("\n  - ")
            ),
        }
    }
}

impl std::error::Error for Problems {}

/// Settings while they are parsed. Problems accumulate; [`Settings::finish`] returns them all.
#[derive(Debug)]
pub struct Settings {
    file: toml::Table,
    places: SourceLocations,
    problems: Problems,
}

impl Settings {
    /// Reads `explicit`, which must exist, or [`DEFAULT_FILE`], which may be missing.
    pub fn read(explicit: Option<&Path>) -> Self {
        let path = explicit.unwrap_or(Path::new(DEFAULT_FILE));
        let (text, problem) = match std::fs::read_to_string(path) {
            Ok(text) => (text, None),
            Err(error) if explicit.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                (String::new(), None)
            }
            Err(error) => (
                String::new(),
                Some(format!("{} cannot be read: {error}", path.display())),
            ),
        };
        let mut settings = Self::from_toml(&text, &path.display().to_string());
        settings.problems.0.extend(problem);
        settings
    }

    /// Parses `text`; `name` is the file's name in messages.
    pub fn from_toml(text: &str, name: &str) -> Self {
        let mut problems = Problems::default();
        let mut file = text.parse::<toml::Table>().unwrap_or_else(|error| {
            problems.push(format!(
                "{name} is not valid TOML: {}",
                error.to_string().trim_end()
            ));
            toml::Table::new()
        });
        let places = SourceLocations::new(text, name);
        file.retain(|key, value| match misplaced(key, value) {
            Some(problem) => {
                let path = SettingPath::of(key);
                problems.push(format!("{}: {path}: {problem}", places.of(&path)));
                false
            }
            None => true,
        });
        Self {
            file,
            places,
            problems,
        }
    }

    /// Takes the setting `key` (`amqp_url`): from the flag or variable, otherwise from the file,
    /// otherwise `default`. Returns `None` after a problem, which is collected.
    pub fn take<T>(&mut self, key: &str, flag: Option<&str>, default: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let written = self
            .text(key, flag)
            .unwrap_or_else(|| Written::given(default));
        self.parse(key, &written, |error| error)
    }

    /// Takes a setting as [`Settings::take`] does; a problem quotes `example`.
    pub fn take_like<T>(
        &mut self,
        key: &str,
        flag: Option<&str>,
        default: &str,
        example: &str,
    ) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let written = self
            .text(key, flag)
            .unwrap_or_else(|| Written::given(default));
        self.parse(key, &written, |error| format!("{error}; write {example}"))
    }

    /// Takes a setting without a default.
    pub fn take_optional<T>(&mut self, key: &str, flag: Option<&str>) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let written = self.text(key, flag)?;
        self.parse(key, &written, |error| error)
    }

    /// Takes a duration that must not be 0.
    pub fn take_positive(
        &mut self,
        key: &str,
        flag: Option<&str>,
        default: &str,
    ) -> Option<DurationSetting> {
        let duration = self.take::<DurationSetting>(key, flag, default);
        if duration.is_some_and(DurationSetting::is_zero) {
            self.problem(format!("{}: must be greater than 0", key.replace('_', "-")));
        }
        duration
    }

    /// Takes the table `key` out of the file, if it exists.
    pub fn table(&mut self, key: &str) -> Option<toml::Table> {
        match self.file.remove(key)? {
            toml::Value::Table(table) => Some(table),
            other => {
                let found = kind(&other);
                self.problem(format!("{key}: expected a table, not {found}"));
                None
            }
        }
    }

    /// Adds a problem that the caller found.
    pub fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem);
    }

    /// Adds a problem with a setting of the file, with its location.
    pub fn problem_at(&mut self, path: &SettingPath, problem: impl fmt::Display) {
        let place = self.places.of(path);
        self.problem(format!("{place}: {path}: {problem}"));
    }

    /// Adds a problem `offset` bytes after the begin of a setting's `text`.
    pub fn problem_within(
        &mut self,
        path: &SettingPath,
        text: &str,
        offset: usize,
        problem: impl fmt::Display,
    ) {
        let place = self.places.within(path, text, offset);
        self.problem(format!("{place}: {path}: {problem}"));
    }

    /// Returns `value` if there were no problems.
    ///
    /// # Errors
    /// All problems.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.problems.0.is_empty() => Ok(value),
            _ => Err(self.problems),
        }
    }

    /// Returns the text of a setting. An empty flag or variable counts as missing: compose files
    /// set variables to nothing.
    fn text(&mut self, key: &str, flag: Option<&str>) -> Option<Written> {
        if let Some(flag) = flag.filter(|flag| !flag.is_empty()) {
            return Some(Written::given(flag));
        }
        let text = match self.file.get(key)? {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let place = self.places.of(&SettingPath::of(key));
        Some(Written {
            text,
            place: format!("{place}: "),
        })
    }

    fn parse<T>(
        &mut self,
        key: &str,
        written: &Written,
        explain: impl FnOnce(String) -> String,
    ) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        match written.text.parse::<T>() {
            Ok(value) => Some(value),
            Err(error) => {
                let problem = explain(error.to_string());
                self.problem(format!("{}{}: {problem}", written.place, dashed(key)));
                None
            }
        }
    }
}

/// Text of a setting and its source.
struct Written {
    text: String,
    /// Prefix of problems: the location, for a setting of the file.
    place: String,
}

impl Written {
    /// Returns a setting from a flag, a variable or a default.
    fn given(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            place: String::new(),
        }
    }
}

/// Tables of the file; every other top-level setting is a single value.
const TABLES: [&str; 2] = ["apps", "routes"];

/// Returns the problem with a top-level key, if any.
fn misplaced(key: &str, value: &toml::Value) -> Option<String> {
    use toml::Value::{Array, Datetime, Table};
    let is_table = matches!(value, Table(_));
    // `[app."t/x"]` is easily written for `[apps."t/x"]`.
    let meant = TABLES.into_iter().find(|table| {
        let plural = format!("{}s", key.to_lowercase());
        is_table && (key.eq_ignore_ascii_case(table) || plural == **table)
    });
    match (KNOWN.contains(&key), value) {
        (true, _) if TABLES.contains(&key) => None,
        (true, Table(_) | Array(_) | Datetime(_)) | (false, _) if meant.is_some() => Some(format!(
            "unknown table; write [{}.\"owner/name\"]",
            meant.unwrap_or_default()
        )),
        (true, Table(_) | Array(_) | Datetime(_)) => {
            Some(format!("expected a single value, not {}", kind(value)))
        }
        (true, _) => None,
        (false, _) => Some("unknown setting".to_owned()),
    }
}

/// Returns a setting's name as its flag spells it.
fn dashed(key: &str) -> String {
    key.replace('_', "-")
}

/// Returns the kind of a value in words: `a whole number`.
pub fn kind(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "text",
        toml::Value::Integer(_) => "a whole number",
        toml::Value::Float(_) => "a number",
        toml::Value::Boolean(_) => "a boolean",
        toml::Value::Datetime(_) => "a date",
        toml::Value::Array(_) => "a list",
        toml::Value::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let mut settings = Settings::from_toml("namespace = 'file'\nconcurrency = 3", "warmq.toml");
        assert_eq!(
            settings
                .take::<String>("namespace", Some("flag"), "default")
                .unwrap(),
            "flag"
        );
        assert_eq!(settings.take::<u32>("concurrency", None, "1"), Some(3));
        assert_eq!(settings.take::<u32>("slots", None, "2"), Some(2));
    }

    #[test]
    fn every_mistake_is_reported() {
        let mut settings = Settings::from_toml("nonsense = 1\nconcurrency = 'many'", "warmq.toml");
        let concurrency = settings.take::<u32>("concurrency", None, "1");
        let slots = settings.take::<u32>("slots", Some("-1"), "2");
        let problems = settings.finish(concurrency.zip(slots)).unwrap_err();
        assert_eq!(problems.sentences().len(), 3, "{problems}");
    }

    #[test]
    fn unknown_settings_are_reported_with_their_line() {
        for (text, expected) in [
            (
                "nonsense = 1",
                "warmq.toml, line 1, column 12: nonsense: unknown setting",
            ),
            (
                "\n[nonsense.'a/b']",
                "warmq.toml, line 2, column 2: nonsense: unknown setting",
            ),
            (
                "[app.'a/b']",
                "warmq.toml, line 1, column 2: app: unknown table; write [apps.\"owner/name\"]",
            ),
            ("[route.'a/b']", "write [routes.\"owner/name\"]"),
            ("[Apps.'a/b']", "write [apps.\"owner/name\"]"),
            (
                "[redis_url]\nhost = 1",
                "redis_url: expected a single value, not a table",
            ),
            (
                "roles = ['api']",
                "line 1, column 9: roles: expected a single value, not a list",
            ),
        ] {
            let problems = Settings::from_toml(text, "warmq.toml").finish(Some(()));
            let problems = problems.unwrap_err();
            assert!(
                problems.sentences()[0].contains(expected),
                "{text}: {problems}"
            );
            assert_eq!(problems.sentences().len(), 1, "{problems}");
        }
    }

    #[test]
    fn a_wrong_value_of_the_file_is_named_with_its_line() {
        let mut settings = Settings::from_toml("\nconcurrency = 1.5", "warmq.toml");
        let concurrency = settings.take::<u32>("concurrency", None, "1");
        let problems = settings.finish(concurrency).unwrap_err().to_string();
        assert!(
            problems.contains("line 2, column 15: concurrency: "),
            "{problems}"
        );
    }

    #[test]
    fn an_empty_variable_counts_as_not_given() {
        let mut settings = Settings::from_toml("namespace = 'file'", "warmq.toml");
        let taken = settings.take::<String>("namespace", Some(""), "default");
        assert_eq!(taken.as_deref(), Some("file"));
        assert_eq!(settings.take::<u32>("slots", Some(""), "2"), Some(2));
    }

    #[test]
    fn a_syntax_error_is_reported_with_its_line() {
        let problems = Settings::from_toml("namespace = ", "warmq.toml")
            .finish(Some(()))
            .unwrap_err();
        assert!(problems.to_string().contains("line 1"), "{problems}");
    }
}
