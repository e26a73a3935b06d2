//! Sessions of browsers, each under the hash of its token until it expires.

use std::time::Duration;

use redis::AsyncCommands;
use warmq_types::access::{Session, SessionToken};

use super::record::json;
use super::{Error, Sessions};

impl Sessions<'_> {
    /// Stores a session for `lifetime`.
    pub async fn create(
        self,
        token: &SessionToken,
        session: &Session,
        lifetime: Duration,
    ) -> Result<(), Error> {
        let key = self.keys.session(&token.stored_name());
        let mut connection = self.connection.clone();
        Ok(connection
            .set_ex(key, json(session), lifetime.as_secs())
            .await?)
    }

    /// Returns a session, unless it has expired or another version wrote it.
    pub async fn get(self, token: &SessionToken) -> Result<Option<Session>, Error> {
        let key = self.keys.session(&token.stored_name());
        let text: Option<String> = self.connection.clone().get(key).await?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Ends a session.
    pub async fn delete(self, token: &SessionToken) -> Result<(), Error> {
        let key = self.keys.session(&token.stored_name());
        Ok(self.connection.clone().del(key).await?)
    }
}
