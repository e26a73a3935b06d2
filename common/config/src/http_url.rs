//! URLs of HTTP to which paths are appended.

use std::str::FromStr;

use url::Url;

/// A URL without query and fragment, to which paths can be appended.
#[derive(Debug, Clone)]
pub struct HttpUrl(Url);

impl FromStr for HttpUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "write https://host/path";
        let url = Url::parse(text)
            .map_err(|error| format!("'{text}' is not a URL ({error}); {EXAMPLE}"))?;
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
            return Err(format!("'{text}' is not a URL of HTTP; {EXAMPLE}"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!(
                "'{text}' has a part from ? or # on, and paths are added to it; {EXAMPLE}"
            ));
        }
        Ok(Self(url))
    }
}

impl HttpUrl {
    /// Returns the URL.
    pub fn into_url(self) -> Url {
        self.0
    }
}
