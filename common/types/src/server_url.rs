//! The URL of a server, safe to print.

use std::fmt;
use std::sync::Arc;

/// A URL that may contain a password. Its `Display` and `Debug` output omits the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    url: url::Url,
    text: Arc<str>,
}

impl ServerUrl {
    /// Returns the URL as given, with its password: for the client library only.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Returns the part before `://`.
    pub fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// Returns the parsed URL, with its password.
    pub fn as_url(&self) -> &url::Url {
        &self.url
    }
}

impl std::str::FromStr for ServerUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let url = url::Url::parse(text).map_err(|error| format!("not a URL ({error})"))?;
        Ok(Self {
            url,
            text: text.into(),
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.url.clone();
        let host_is_misread =
            shown.scheme() != "file" && shown[url::Position::AfterPort..].contains('@');
        if host_is_misread {
            // A password with an unescaped '/', '?' or '#': the apparent path is part of it.
            return write!(f, "{}://***", shown.scheme());
        }
        if shown.password().is_some() {
            // Setting a password fails only for URLs without a host, which have none.
            let _ = shown.set_password(Some("***"));
        } else if !shown.username().is_empty() && shown.scheme().starts_with("redis") {
            // A single credential is often a password in the place of the user.
            let _ = shown.set_username("***");
        }
        let secret =
            |name: &str| name.contains("pass") || name.contains("secret") || name.contains("token");
        if shown.query_pairs().any(|(name, _)| secret(&name)) {
            shown.set_query(Some("***"));
        }
        shown.fmt(f)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let url: ServerUrl = "amqp://user:hunter2@host:5672/%2f".parse().unwrap();
        assert!(!format!("{url} {url:?}").contains("hunter2"));
        assert!(url.expose().contains("hunter2"));
        for (text, shown) in [
            ("redis://:hunter2@host:6379/0", "redis://:***@host:6379/0"),
            ("rediss://user:hunter2@host", "rediss://user:***@host"),
            ("redis://hunter2@host:6379/0", "redis://***@host:6379/0"),
            ("amqp://user:7/hunter2@host/%2f", "amqp://***"),
            ("amqp://user:7?hunter2@host/%2f", "amqp://***"),
            ("amqp://user:7#hunter2@host/%2f", "amqp://***"),
            (
                "amqp://user@host/v%40host?heartbeat=5",
                "amqp://user@host/v%40host?heartbeat=5",
            ),
            ("redis://host?password=hunter2", "redis://host?***"),
            ("file:///folder/a@b", "file:///folder/a@b"),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("ServerUrl({shown})"));
        }
        for broken in [
            "amqp://user:hunter2/x@host",
            "amqp://user:hunter2#@host:5672",
        ] {
            let error = broken.parse::<ServerUrl>().unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
