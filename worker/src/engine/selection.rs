//! Which of the models that it can load a worker serves.

use std::str::FromStr;

use warmq_types::hint::Hint;
use wildmatch::WildMatch;

/// Names and patterns of models: `flux*,sdxl`; `*` stands for any text, `?` for one character.
#[derive(Debug, Clone, Default)]
pub struct ModelSelection(Vec<Pattern>);

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    matcher: WildMatch,
}

impl ModelSelection {
    /// Returns whether the worker serves this model.
    pub fn allows(&self, model: &str) -> bool {
        let matches = |pattern: &Pattern| pattern.matcher.matches(model);
        self.0.is_empty() || self.0.iter().any(matches)
    }

    /// Returns the catalog of an engine that can load any model: the names themselves; empty for
    /// any.
    ///
    /// # Errors
    /// A pattern stands for models that nothing lists.
    pub fn names(&self) -> Result<Vec<String>, String> {
        let is_pattern = |pattern: &&Pattern| pattern.text.contains(['*', '?']);
        match self.0.iter().find(is_pattern) {
            None => Ok(self.0.iter().map(|name| name.text.clone()).collect()),
            Some(pattern) => Err(format!(
                "only: '{}' needs an engine that lists its models; write their names",
                pattern.text
            )),
        }
    }
}

impl FromStr for ModelSelection {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let texts = text.split(',').map(str::trim);
        let patterns = texts.filter(|text| !text.is_empty()).map(|text| {
            Hint::parse(text).map_err(|error| error.to_string())?;
            Ok(Pattern {
                text: text.to_owned(),
                matcher: WildMatch::new(text),
            })
        });
        patterns.collect::<Result<_, String>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns_select_models() {
        let selection: ModelSelection = "flux*, sdxl, sd1?".parse().unwrap();
        for model in ["flux", "flux-dev", "sdxl", "sd15"] {
            assert!(selection.allows(model), "{model}");
        }
        for model in ["my-flux", "sdxl-turbo", "sd1", "FLUX", ""] {
            assert!(!selection.allows(model), "{model}");
        }
        assert!(ModelSelection::default().allows("any"));
    }

    #[test]
    fn names_without_patterns_are_a_catalog() {
        let names = |text: &str| text.parse::<ModelSelection>().unwrap().names();
        assert_eq!(names("b,a"), Ok(vec!["b".to_owned(), "a".to_owned()]));
        assert_eq!(names(""), Ok(Vec::new()));
        assert!(names("a,flux*").unwrap_err().contains("'flux*'"));
    }
}
