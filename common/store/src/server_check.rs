//! Checks of the Redis server: requirements and advice.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::refusal::Refusal;
use super::{Check, Error};

/// Timeout for a message that was published to arrive.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(2);

impl Check<'_> {
    /// Tries everything that warmq needs of Redis: a single server that accepts writes, runs
    /// scripts and delivers published messages.
    ///
    /// # Errors
    /// A requirement is not met.
    pub async fn requirements(self) -> Result<(), Error> {
        let [one, other] = self.keys.in_two_slots();
        let _: u64 = redis::cmd("EXISTS")
            .arg(one)
            .arg(other)
            .query_async(&mut self.connection.clone())
            .await?;
        let channel = self.keys.check_channel();
        let mut messages = self.subscriptions.open(&channel).await?;
        let token = Uuid::new_v4().to_string();
        let _: () = self
            .scripts
            .check
            .key(self.keys.check())
            .arg(&token)
            .arg(&channel)
            .invoke_async(&mut self.connection.clone())
            .await?;
        let delivered = async {
            while let Some(message) = messages.next().await {
                if message == token {
                    return true;
                }
            }
            false
        };
        match tokio::time::timeout(DELIVERY_TIMEOUT, delivered).await {
            Ok(true) => Ok(()),
            // The connection ended; the settings are not to blame.
            Ok(false) => self.ping().await,
            Err(_) => Err(Error::refused(&self.url, Refusal::NoMessages)),
        }
    }

    /// Returns settings of Redis that risk jobs or results, one sentence each; none if the server
    /// hides its settings.
    pub async fn warnings(self) -> Result<Vec<String>, Error> {
        let mut settings = self.settings("append*").await?;
        settings.extend(self.settings("maxmemory*").await?);
        Ok(warnings(&settings))
    }

    async fn settings(self, pattern: &str) -> Result<HashMap<String, String>, Error> {
        let asked = redis::cmd("CONFIG")
            .arg("GET")
            .arg(pattern)
            .query_async(&mut self.connection.clone())
            .await;
        match asked {
            Ok(settings) => Ok(settings),
            // Managed servers hide their settings.
            Err(error) if !error.is_unrecoverable_error() && !error.is_io_error() => {
                Ok(HashMap::new())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn warnings(settings: &HashMap<String, String>) -> Vec<String> {
    let setting = |name: &str| settings.get(name).map(String::as_str);
    let mut warnings = Vec::new();
    if let (Some(only), Some(sync)) = (setting("appendonly"), setting("appendfsync"))
        && (only, sync) != ("yes", "always")
    {
        warnings.push(format!(
            "Redis may lose its last writes when it dies (appendonly {only}, appendfsync {sync}): jobs then run \
             again. Set appendonly yes and appendfsync always"
        ));
    }
    let bounded = setting("maxmemory").is_some_and(|bytes| bytes != "0");
    if let Some(policy) = setting("maxmemory-policy")
        && bounded
        && policy != "noeviction"
    {
        warnings.push(format!(
            "Redis drops jobs and results when it is full (maxmemory-policy {policy}). Set maxmemory-policy \
             noeviction"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(settings: &[(&str, &str)]) -> Vec<String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        warnings(&settings.iter().map(owned).collect())
    }

    #[test]
    fn settings_under_which_something_gets_lost_are_warned_of() {
        let safe = [("appendonly", "yes"), ("appendfsync", "always")];
        assert!(warned(&safe).is_empty());
        assert!(warned(&[]).is_empty(), "it does not say");
        let lossy = warned(&[("appendonly", "no"), ("appendfsync", "everysec")]);
        assert!(lossy[0].contains("appendonly no"), "{lossy:?}");
        let evicting = |maxmemory| {
            warned(&[
                ("maxmemory", maxmemory),
                ("maxmemory-policy", "allkeys-lru"),
            ])
        };
        assert!(evicting("0").is_empty());
        assert!(evicting("1000")[0].contains("allkeys-lru"));
    }
}
