//! A copy of all API keys.
//!
//! The copy is read from Redis every [`CACHE_TTL`], so that a request needs no round trip, a
//! revoked key is refused soon, and known keys remain valid during an outage. A key that is not in
//! the copy is read from Redis at once: another router may have just created it.
//!
//! Without keys, requests need none. Once a key existed, this router requires keys until it ends,
//! even if Redis loses all of them: losing data must not open the router to strangers.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::HeaderMap;
use tokio_util::sync::CancellationToken;
use warmq_store::{KeyCreation, KeyRevocation, Store};
use warmq_types::access::{
    AdminKey, ApiKey, Credentials, Limits, NewKey, SecretHash, Session, SessionToken, StoredKey,
};
use warmq_types::ids::KeyId;

use super::{Caller, NoKey, header};

/// Interval at which the copy is read from Redis.
const CACHE_TTL: Duration = Duration::from_secs(2);

/// Lifetime of a browser's session: a working day.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Why a request is not authenticated.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// It has no key.
    #[error(transparent)]
    NoKey(#[from] NoKey),
    /// The key does not exist, or its secret differs; the response does not distinguish these.
    #[error("the key does not exist, or was revoked")]
    Unknown,
    /// The session ended, or its key was revoked.
    #[error("the session has ended: log in again")]
    SessionEnded,
    /// The key is not in the copy, and Redis failed.
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
}

/// A cheap handle on the keys.
#[derive(Clone)]
pub struct Keyring {
    store: Store,
    root: Option<KnownKey>,
    copy: Arc<RwLock<Snapshot>>,
}

/// A key with the hash of its secret.
#[derive(Clone)]
struct KnownKey {
    key: Arc<ApiKey>,
    secret: SecretHash,
}

#[derive(Default)]
struct Snapshot {
    keys: HashMap<KeyId, KnownKey>,
    /// A key exists, or existed.
    require_keys: bool,
}

impl Keyring {
    /// Reads the keys in `store`. `root`: the administrator's key of the settings.
    pub async fn open(store: Store, root: Option<AdminKey>) -> Result<Self, warmq_store::Error> {
        let keyring = Self {
            store,
            root: root.map(|AdminKey(key)| key.into()),
            copy: Arc::default(),
        };
        keyring.read().await?;
        Ok(keyring)
    }

    /// Returns whether requests need a key.
    pub fn require_keys(&self) -> bool {
        self.root.is_some() || self.copy().require_keys
    }

    /// Returns whether there are at least two keys, so that owners share apps.
    pub fn are_several(&self) -> bool {
        self.copy().keys.len() + usize::from(self.root.is_some()) > 1
    }

    /// Authenticates the caller of a request with these headers.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, AuthError> {
        if !self.require_keys() {
            return Ok(Caller::Trusted);
        }
        let credentials = header::credentials(headers)?;
        self.holder(&credentials.id, credentials.hash()).await
    }

    /// Begins a session of a key's holder.
    pub async fn log_in(&self, credentials: &Credentials) -> Result<SessionToken, AuthError> {
        let session = Session {
            key: credentials.id.clone(),
            secret_sha256: credentials.hash(),
        };
        self.holder(&session.key, session.secret_sha256).await?;
        // The thread's generator is cryptographically secure.
        let token = SessionToken::new(rand::random());
        let sessions = self.store.sessions();
        sessions.create(&token, &session, SESSION_LIFETIME).await?;
        Ok(token)
    }

    /// Authenticates the caller of a request with a session's token.
    pub async fn caller_of_session(&self, token: &SessionToken) -> Result<Caller, AuthError> {
        if !self.require_keys() {
            return Ok(Caller::Trusted);
        }
        let session = self.store.sessions().get(token).await?;
        let session = session.ok_or(AuthError::SessionEnded)?;
        let holder = self.holder(&session.key, session.secret_sha256).await;
        holder.map_err(|error| match error {
            AuthError::Unknown => AuthError::SessionEnded,
            error => error,
        })
    }

    /// Ends a session.
    pub async fn log_out(&self, token: &SessionToken) -> Result<(), warmq_store::Error> {
        self.store.sessions().delete(token).await
    }

    /// Returns the holder of a key with this secret.
    async fn holder(&self, id: &KeyId, secret: SecretHash) -> Result<Caller, AuthError> {
        let known = self.find(id).await?.ok_or(AuthError::Unknown)?;
        match known.secret == secret {
            true => Ok(Caller::Holder(known.key)),
            false => Err(AuthError::Unknown),
        }
    }

    /// Lists the keys except that of the settings, the oldest first.
    pub async fn list(&self) -> Result<Vec<ApiKey>, warmq_store::Error> {
        let all = self.store.api_keys().all().await?.into_iter();
        let mut keys: Vec<ApiKey> = all.filter_map(readable).map(|stored| stored.key).collect();
        keys.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        Ok(keys)
    }

    /// Returns whether a key exists, in the settings or in Redis.
    pub async fn has_any(&self) -> Result<bool, warmq_store::Error> {
        Ok(self.root.is_some() || !self.store.api_keys().all().await?.is_empty())
    }

    /// Creates a key. The returned secret is not stored.
    pub async fn create(
        &self,
        requested: NewKey,
    ) -> Result<(ApiKey, Credentials, KeyCreation), warmq_store::Error> {
        // The thread's generator is cryptographically secure.
        let credentials = Credentials::new(KeyId::generate(&requested.name), rand::random());
        let stored = StoredKey {
            secret_sha256: credentials.hash(),
            key: ApiKey {
                id: credentials.id.clone(),
                scopes: requested.scopes,
                limits: requested.limits,
                created_ms: self.store.now_ms().await?,
            },
        };
        let kept = self
            .store
            .api_keys()
            .create(&stored, self.root.is_some())
            .await?;
        if kept == KeyCreation::Yes {
            self.remember(&stored);
        }
        Ok((stored.key, credentials, kept))
    }

    /// Replaces the limits of a key: in this router at once, in others within [`CACHE_TTL`].
    /// Returns the key, `None` if it does not exist; that of the settings has none to replace.
    ///
    /// # Errors
    /// Redis is unreachable, or the key was written by another version.
    pub async fn set_limits(
        &self,
        id: &KeyId,
        limits: Limits,
    ) -> Result<Option<ApiKey>, warmq_store::Error> {
        let changed = self.store.api_keys().set_limits(id, limits).await?;
        // A key that was revoked since then is not in the copy, and must not return to it.
        if let Some(changed) = &changed
            && let Some(known) = self.copy_mut().keys.get_mut(id)
        {
            *known = KnownKey::from(changed.clone());
        }
        Ok(changed.map(|stored| stored.key))
    }

    /// Returns the limits of a key as they are in the copy, without I/O: the default ones for a key
    /// that is not in it, such as one that another router created within [`CACHE_TTL`].
    pub fn limits_of(&self, id: &KeyId) -> Limits {
        let known = self.known(id);
        known.map_or_else(Limits::default, |known| known.key.limits)
    }

    /// Revokes a key: in this router at once, in others within [`CACHE_TTL`].
    pub async fn revoke(&self, id: &KeyId) -> Result<KeyRevocation, warmq_store::Error> {
        let revoked = self
            .store
            .api_keys()
            .revoke(id, self.root.is_some())
            .await?;
        if revoked != KeyRevocation::LastAdmin {
            self.copy_mut().keys.remove(id);
        }
        Ok(revoked)
    }

    /// Keeps the copy fresh until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(CACHE_TTL) => {}
            }
            if let Err(error) = self.read().await {
                tracing::debug!(%error, "could not read the keys");
            }
        }
    }

    /// Finds a key.
    async fn find(&self, id: &KeyId) -> Result<Option<KnownKey>, warmq_store::Error> {
        if let Some(known) = self.known(id) {
            return Ok(Some(known));
        }
        let found = self.store.api_keys().get(id).await?;
        Ok(found.map(|stored| self.remember(&stored)))
    }

    /// Finds a key in the settings and in the copy.
    fn known(&self, id: &KeyId) -> Option<KnownKey> {
        let root = self.root.as_ref().filter(|root| root.key.id == *id);
        root.cloned().or_else(|| self.copy().keys.get(id).cloned())
    }

    async fn read(&self) -> Result<(), warmq_store::Error> {
        let all = self.store.api_keys().all().await?;
        // Unreadable keys count, too.
        let has_keys = !all.is_empty();
        let all = all.into_iter().filter_map(readable).map(KnownKey::from);
        let keys = all.map(|known| (known.key.id.clone(), known)).collect();
        let mut copy = self.copy_mut();
        copy.keys = keys;
        copy.require_keys |= has_keys;
        Ok(())
    }

    fn remember(&self, stored: &StoredKey) -> KnownKey {
        let known = KnownKey::from(stored.clone());
        let mut copy = self.copy_mut();
        copy.keys.insert(stored.key.id.clone(), known.clone());
        copy.require_keys = true;
        known
    }

    fn copy(&self) -> std::sync::RwLockReadGuard<'_, Snapshot> {
        self.copy.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy_mut(&self) -> std::sync::RwLockWriteGuard<'_, Snapshot> {
        self.copy.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<StoredKey> for KnownKey {
    fn from(stored: StoredKey) -> Self {
        Self {
            key: Arc::new(stored.key),
            secret: stored.secret_sha256,
        }
    }
}

/// Returns a key, unless another version wrote it: other keys remain valid.
fn readable(key: Result<StoredKey, warmq_store::Error>) -> Option<StoredKey> {
    key.inspect_err(|error| tracing::warn!(%error, "ignored an unreadable key"))
        .ok()
}
