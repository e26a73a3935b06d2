//! What the file says of each app: `[apps."owner/name"]`.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::Value;

use super::Settings;
use crate::hint::{Hint, InvalidHint};
use crate::ids::AppId;

/// How the dispatcher of an app decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PolicyName {
    /// fal's documented rule: an idle runner that reports the hint, else an idle one that reports nothing, else anyone.
    #[default]
    Fal,
}

impl FromStr for PolicyName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fal" => Ok(Self::Fal),
            other => Err(format!("unknown policy '{other}'; known: fal")),
        }
    }
}

/// Where in a job's input its hint stands: `input.model`, `input.lora.name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HintPath(Vec<String>);

impl HintPath {
    /// The hint in `input`: none when the path leads nowhere or to no text.
    ///
    /// # Errors
    /// The text there is too long for a hint.
    pub fn hint(&self, input: &Value) -> Result<Option<Hint>, InvalidHint> {
        let found = self.0.iter().try_fold(input, |value, key| value.get(key));
        match found.and_then(Value::as_str) {
            Some(text) => Hint::parse_optional(text),
            None => Ok(None),
        }
    }
}

impl FromStr for HintPath {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('.').map(str::to_owned);
        let keys: Vec<String> = match parts.next().as_deref() {
            Some("input") => parts.collect(),
            _ => Vec::new(),
        };
        if keys.is_empty() || keys.iter().any(String::is_empty) {
            return Err(format!(
                "'{text}' is no path into the input, such as input.model"
            ));
        }
        Ok(Self(keys))
    }
}

/// One app's settings; the defaults serve an app that the file does not name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppConfig {
    /// How its jobs are routed.
    pub policy: PolicyName,
    /// Where its hint stands when the submitter gives none.
    pub hint_from: Option<HintPath>,
}

/// The apps that the file names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apps(BTreeMap<AppId, AppConfig>);

impl Apps {
    /// Reads `[apps]`; problems are noted in `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let mut apps = BTreeMap::new();
        for (name, entry) in settings.table("apps").unwrap_or_default() {
            let id = AppId::parse(&name)
                .map_err(|error| settings.problem(format!("apps: {error}")))
                .ok();
            let toml::Value::Table(entry) = entry else {
                settings.problem(format!("apps.\"{name}\": a table is expected"));
                continue;
            };
            let config = read_app(settings, &name, entry);
            if let Some(id) = id {
                apps.insert(id, config);
            }
        }
        Self(apps)
    }

    /// The settings of `app`: the file's, or the defaults.
    pub fn get(&self, app: &AppId) -> AppConfig {
        self.0.get(app).cloned().unwrap_or_default()
    }

    /// The apps that the file names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &AppId> {
        self.0.keys()
    }
}

fn read_app(settings: &mut Settings, name: &str, entry: toml::Table) -> AppConfig {
    let mut config = AppConfig::default();
    for (key, value) in entry {
        let problem = match (key.as_str(), value.as_str()) {
            ("policy", Some(text)) => text.parse().map(|policy| config.policy = policy).err(),
            ("hint_from", Some(text)) => {
                text.parse().map(|path| config.hint_from = Some(path)).err()
            }
            ("policy" | "hint_from", None) => Some("text is expected".to_owned()),
            _ => Some("unknown setting".to_owned()),
        };
        if let Some(problem) = problem {
            settings.problem(format!("apps.\"{name}\".{key}: {problem}"));
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_app_that_the_file_names_has_its_settings() {
        let mut settings =
            Settings::from_toml("[apps.'a/b']\nhint_from = 'input.model'", "warmq.toml");
        let apps = Apps::read(&mut settings);
        settings.finish(Some(())).unwrap();
        let path = apps.get(&AppId::parse("a/b").unwrap()).hint_from.unwrap();
        let hint = |input: Value| path.hint(&input).unwrap().map(String::from);
        assert_eq!(hint(json!({"model": "shapes"})), Some("shapes".to_owned()));
        assert_eq!(hint(json!({"model": 7})), None);
        assert_eq!(hint(json!([])), None);
    }

    #[test]
    fn every_mistake_in_every_app_is_reported() {
        let text = "[apps.'A']\n[apps.'a/b']\npolicy = 'luck'\nhint_from = 'model'\nspeed = 9";
        let mut settings = Settings::from_toml(text, "warmq.toml");
        Apps::read(&mut settings);
        let problems = settings.finish(Some(())).unwrap_err();
        assert_eq!(problems.sentences().len(), 4, "{problems}");
    }
}
