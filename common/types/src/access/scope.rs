//! Scopes: permissions of a key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::AppId;

/// One permission of a key. As text: `submit:owner/name`, `submit:owner/*`, `submit:*`, `read`,
/// `watch`, `admin`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// Submit jobs to these apps.
    Submit(AppPattern),
    /// Read and cancel the key's own jobs.
    Read,
    /// Read apps, runners and metrics.
    Watch,
    /// Everything, including other keys' jobs, dead letters and keys.
    Admin,
}

/// A set of apps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AppPattern {
    /// `*`: every app.
    All,
    /// `owner/*`: every app of that owner.
    OfOwner(String),
    /// `owner/name`: one app.
    One(AppId),
}

/// A text that is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a scope; known: submit:owner/name, submit:owner/*, submit:*, read, watch, admin"
)]
pub struct InvalidScope(String);

impl AppPattern {
    /// Returns whether the set contains `app`.
    pub fn covers(&self, app: &AppId) -> bool {
        match self {
            Self::All => true,
            Self::OfOwner(owner) => app.owner() == owner,
            Self::One(one) => one == app,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        match text.strip_suffix("/*") {
            // A valid owner is the first part of some app's name.
            Some(owner) => AppId::parse(&format!("{owner}/x"))
                .is_ok()
                .then(|| Self::OfOwner(owner.to_owned())),
            None => AppId::parse(text).ok().map(Self::One),
        }
    }
}

impl fmt::Display for AppPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::OfOwner(owner) => write!(f, "{owner}/*"),
            Self::One(app) => app.fmt(f),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit(apps) => write!(f, "submit:{apps}"),
            Self::Read => f.write_str("read"),
            Self::Watch => f.write_str("watch"),
            Self::Admin => f.write_str("admin"),
        }
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        let scope = match text {
            "read" => Some(Self::Read),
            "watch" => Some(Self::Watch),
            "admin" => Some(Self::Admin),
            other => other
                .strip_prefix("submit:")
                .and_then(AppPattern::parse)
                .map(Self::Submit),
        };
        scope.ok_or_else(|| InvalidScope(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Scope {
    type Error = InvalidScope;
    fn try_from(text: String) -> Result<Self, InvalidScope> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> String {
        scope.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, app: &str) -> bool {
        let Scope::Submit(apps) = format!("submit:{pattern}").parse().unwrap() else {
            panic!("{pattern}");
        };
        apps.covers(&app.parse().unwrap())
    }

    #[test]
    fn a_pattern_is_one_app_or_all_of_an_owner_or_all() {
        assert!(covers("a/b", "a/b") && !covers("a/b", "a/bc") && !covers("a/b", "aa/b"));
        assert!(covers("a/*", "a/b") && covers("a/*", "a/c") && !covers("a/*", "ab/b"));
        assert!(covers("*", "a/b"));
    }

    #[test]
    fn scopes_are_read_as_they_are_written_and_nothing_else_is_one() {
        for text in [
            "submit:a/b",
            "submit:fal-ai/*",
            "submit:*",
            "read",
            "watch",
            "admin",
        ] {
            let scope: Scope = text.parse().unwrap();
            assert_eq!(scope.to_string(), text);
        }
        for text in [
            "",
            "Admin",
            "read ",
            "submit",
            "submit:",
            "submit:*/*",
            "submit:*/a",
            "submit:a",
            "submit:a/b*",
            "submit:a/*/*",
            "submit:A/*",
            "write",
        ] {
            assert!(text.parse::<Scope>().is_err(), "'{text}'");
        }
    }
}
