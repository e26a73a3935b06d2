//! The router's HTTP API, typed. The client is cheap to clone. Every call fails if the router
//! rejects the request or is unreachable.

mod error;
mod event_stream;
mod messages;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

pub use error::Error;
pub use event_stream::EventStream;
pub use messages::{
    JobQuery, LogEntry, LogLabels, LoggedStatus, RunResult, Submission, Submitted, UsageQuery,
};

use warmq_process::tls;
use warmq_types::access::{ApiKey, KeyChange, Limits, NewKey};
use warmq_types::http::{
    App, Apps, CreatedKey, DeadLetters, Job, Jobs, Keys, Redriven, Route, Runners,
};
use warmq_types::ids::{AppId, JobId, KeyId, RunnerId};
use warmq_types::runner::{ModelChange, RunnerRecord};
use warmq_types::text::is_printable;
use warmq_types::usage::UsageReport;

/// Timeout for connecting. Responses have none.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// A client of one router.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    /// `Key …`, marked as sensitive: hidden in debug output.
    authorization: Option<HeaderValue>,
}

impl Client {
    /// Creates a client of the router at `url` that sends `key`, if any. Connects lazily.
    ///
    /// # Errors
    /// The URL is not `http://…` or `https://…`, or the key contains characters that headers do not
    /// allow.
    pub fn new(url: &str, key: Option<&str>) -> Result<Self, Error> {
        let setting = |what: &'static str, reason: String| Error::Setting { what, reason };
        let base = Url::parse(url.trim_end_matches('/'))
            .map_err(|error| setting("--url", format!("'{url}' is not a URL ({error})")))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            let reason = format!("'{url}' does not begin with http:// or https://");
            return Err(setting("--url", reason));
        }
        let authorization = key
            .map(|key| HeaderValue::from_str(&format!("Key {key}")))
            .transpose()
            .map_err(|_| {
                setting(
                    "WARMQ_KEY",
                    "contains a character that headers do not allow".to_owned(),
                )
            })?
            .map(|mut value| {
                value.set_sensitive(true);
                value
            });
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("warmq/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| setting("HTTP", error.to_string()))?;
        Ok(Self {
            http,
            base,
            authorization,
        })
    }

    /// Returns the router's URL, without a trailing slash.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Submits a job.
    ///
    /// # Errors
    /// The router rejects the job or is unreachable.
    pub async fn submit(&self, submission: &Submission) -> Result<Submitted, Error> {
        let mut path = format!("/queue/{}", submission.app);
        if !submission.path.is_empty() {
            path = format!("{path}/{}", submission.path.trim_matches('/'));
        }
        let mut request = self.request(Method::POST, &path).json(&submission.input);
        if let Some(hint) = &submission.hint {
            let value = HeaderValue::from_bytes(hint.as_str().as_bytes());
            let value = value.map_err(|_| Error::Setting {
                what: "--hint",
                reason: "contains a control character, which headers do not allow".to_owned(),
            })?;
            request = request.header("x-fal-runner-hint", value);
        }
        let priority = submission.priority.as_str();
        request = request.header("x-fal-queue-priority", priority);
        self.read(request).await
    }

    /// Returns a job, `None` if it does not exist.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>, Error> {
        let request = self.request(Method::GET, &format!("/v1/jobs/{id}"));
        match self.read(request).await {
            Ok(job) => Ok(Some(job)),
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns a page of jobs, newest first.
    ///
    /// # Errors
    /// The router rejects the query or is unreachable.
    pub async fn jobs(&self, query: &JobQuery) -> Result<Jobs, Error> {
        let path = format!("/v1/jobs?{}", query.encode());
        self.read(self.request(Method::GET, &path)).await
    }

    /// Returns what ended jobs used.
    ///
    /// # Errors
    /// The router rejects the query or is unreachable.
    pub async fn usage(&self, query: &UsageQuery) -> Result<UsageReport, Error> {
        let path = format!("/v1/usage?{}", query.encode());
        self.read(self.request(Method::GET, &path)).await
    }

    /// Returns a job's status with its whole log.
    pub async fn log(&self, app: &AppId, id: JobId) -> Result<LoggedStatus, Error> {
        let path = format!("/queue/{app}/requests/{id}/status?logs=1");
        self.read(self.request(Method::GET, &path)).await
    }

    /// Follows a job's status with its log: first the whole log, then new lines, until its end.
    pub async fn follow_log(
        &self,
        app: &AppId,
        id: JobId,
    ) -> Result<EventStream<LoggedStatus>, Error> {
        let path = format!("/queue/{app}/requests/{id}/status/stream?logs=1");
        let response = self.accepted(self.request(Method::GET, &path)).await?;
        Ok(EventStream::new(self.clone(), response))
    }

    /// Cancels a job and returns it, `None` if it does not exist.
    ///
    /// # Errors
    /// The job has already ended (status 400), or the router is unreachable.
    pub async fn cancel(&self, id: JobId) -> Result<Option<Job>, Error> {
        let request = self.request(Method::DELETE, &format!("/v1/jobs/{id}"));
        match self.read(request).await {
            Ok(job) => Ok(Some(job)),
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns a job's result as fal's clients receive it: the output, or the error's status and
    /// body.
    pub async fn result(&self, app: &AppId, id: JobId) -> Result<RunResult, Error> {
        let request = self.request(Method::GET, &format!("/queue/{app}/requests/{id}"));
        let response = self.send(request).await?;
        let status = response.status().as_u16();
        let body = self.bytes(response).await?;
        Ok(RunResult {
            status,
            body: self.json(&body)?,
        })
    }

    /// Returns a job's status in fal's terms (`IN_QUEUE`, `IN_PROGRESS`, `COMPLETED`), with its
    /// HTTP status.
    pub async fn status(&self, app: &AppId, id: JobId) -> Result<RunResult, Error> {
        let path = format!("/queue/{app}/requests/{id}/status");
        let response = self.send(self.request(Method::GET, &path)).await?;
        let status = response.status().as_u16();
        let body = self.bytes(response).await?;
        Ok(RunResult {
            status,
            body: self.json(&body)?,
        })
    }

    /// Returns the live runners, of one app or of all.
    pub async fn runners(&self, app: Option<&AppId>) -> Result<Vec<RunnerRecord>, Error> {
        let query = app.map_or_else(String::new, |app| format!("?app={app}"));
        let request = self.request(Method::GET, &format!("/v1/runners{query}"));
        Ok(self.read::<Runners>(request).await?.runners)
    }

    /// Queues a change of a runner's models, which the runner executes once it is idle.
    ///
    /// # Errors
    /// The runner or a model does not exist.
    pub async fn change_models(
        &self,
        app: Option<&AppId>,
        runner: &RunnerId,
        change: &ModelChange,
    ) -> Result<ModelChange, Error> {
        let query = app.map_or_else(String::new, |app| format!("?app={app}"));
        let path = format!("/v1/runners/{runner}/models{query}");
        self.read(self.request(Method::POST, &path).json(change))
            .await
    }

    /// Requests that a runner takes no further job, ends the one that it has, and leaves. Returns
    /// its record.
    ///
    /// # Errors
    /// The runner does not exist.
    pub async fn drain_runner(
        &self,
        app: Option<&AppId>,
        runner: &RunnerId,
    ) -> Result<RunnerRecord, Error> {
        let query = app.map_or_else(String::new, |app| format!("?app={app}"));
        let path = format!("/v1/runners/{runner}/drain{query}");
        self.read(self.request(Method::POST, &path)).await
    }

    /// Returns the apps.
    pub async fn apps(&self) -> Result<Vec<App>, Error> {
        let request = self.request(Method::GET, "/v1/apps");
        Ok(self.read::<Apps>(request).await?.apps)
    }

    /// Returns the routes that the router's configuration declares.
    pub async fn routes(&self) -> Result<Vec<Route>, Error> {
        let request = self.request(Method::GET, "/v1/apps");
        Ok(self.read::<Apps>(request).await?.routes)
    }

    /// Returns dead letters of one app, or all, including submissions to unknown apps.
    pub async fn dead_letters(&self, app: Option<&AppId>) -> Result<DeadLetters, Error> {
        let place = app.map_or_else(String::new, |app| format!("/{app}"));
        let request = self.request(Method::GET, &format!("/v1/dead{place}"));
        self.read(request).await
    }

    /// Returns a dead letter with its body; `place` as in its [listing](DeadLetters).
    ///
    /// # Errors
    /// The letter does not exist, or the router rejects the request or is unreachable.
    pub async fn dead_letter(&self, place: &str, id: JobId) -> Result<Value, Error> {
        let request = self.request(Method::GET, &format!("/v1/dead/{place}/{id}"));
        self.read(request).await
    }

    /// Redrives a dead letter. Returns the job's id.
    ///
    /// # Errors
    /// The letter does not exist or is not a job's, or the router rejects the request or is
    /// unreachable.
    pub async fn redrive(&self, place: &str, id: JobId) -> Result<Redriven, Error> {
        let path = format!("/v1/dead/{place}/{id}/redrive");
        self.read(self.request(Method::POST, &path)).await
    }

    /// Deletes a dead letter.
    ///
    /// # Errors
    /// The letter does not exist, or the router rejects the request or is unreachable.
    pub async fn drop_dead_letter(&self, place: &str, id: JobId) -> Result<(), Error> {
        let request = self.request(Method::DELETE, &format!("/v1/dead/{place}/{id}"));
        self.accepted(request).await.map(drop)
    }

    /// Creates a key.
    pub async fn create_key(&self, key: &NewKey) -> Result<CreatedKey, Error> {
        self.read(self.request(Method::POST, "/v1/keys").json(key))
            .await
    }

    /// Returns the keys, the oldest first.
    pub async fn keys(&self) -> Result<Vec<ApiKey>, Error> {
        let request = self.request(Method::GET, "/v1/keys");
        Ok(self.read::<Keys>(request).await?.keys)
    }

    /// Replaces the limits of a key; of concurrent calls the last one counts. Returns the key.
    ///
    /// # Errors
    /// The key does not exist, or the router rejects the request or is unreachable.
    pub async fn set_limits(&self, id: &KeyId, limits: Limits) -> Result<ApiKey, Error> {
        let request = self.request(Method::PATCH, &format!("/v1/keys/{id}"));
        self.read(request.json(&KeyChange { limits })).await
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// The key does not exist or is the last admin key, or the router rejects the request or is
    /// unreachable.
    pub async fn revoke_key(&self, id: &KeyId) -> Result<(), Error> {
        let request = self.request(Method::DELETE, &format!("/v1/keys/{id}"));
        self.accepted(request).await.map(drop)
    }

    /// Checks that the router is ready.
    ///
    /// # Errors
    /// The router is not ready or unreachable.
    pub async fn ready(&self) -> Result<(), Error> {
        let request = self.request(Method::GET, "/readyz");
        self.accepted(request).await.map(drop)
    }

    /// Fetches a file that an output names. The key is sent to the router itself only.
    ///
    /// # Errors
    /// The file does not exist, or its server is unreachable.
    pub async fn file(&self, url: &Url) -> Result<Bytes, Error> {
        let mut request = self.http.get(url.clone());
        if url.origin() == self.base.origin() {
            request = self.authorize(request);
        }
        let response = self.accepted(request).await?;
        self.bytes(response).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.url());
        self.authorize(self.http.request(method, url))
    }

    fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let url = || self.url().to_owned();
        request
            .send()
            .await
            .map_err(|source| match tls::certificate_error(&source) {
                Some(reason) => Error::Untrusted { url: url(), reason },
                None => Error::Unreachable { url: url(), source },
            })
    }

    /// Sends a request; any status but 2xx is an error.
    async fn accepted(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = self.send(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = self.bytes(response).await?;
        Err(error::refusal(status, &body))
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = self.accepted(request).await?;
        let body = self.bytes(response).await?;
        self.json(&body)
    }

    async fn bytes(&self, response: Response) -> Result<Bytes, Error> {
        response.bytes().await.map_err(|source| Error::Unreachable {
            url: self.url().to_owned(),
            source,
        })
    }

    fn json<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|source| Error::Unreadable {
            url: self.url().to_owned(),
            source,
        })
    }
}

/// Formats `value` as indented JSON. Control characters are escaped, which is the same JSON and
/// safe for terminals.
pub fn pretty(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or(Value::Null);
    let mut text = String::new();
    for letter in format!("{value:#}").chars() {
        // JSON has control characters other than line breaks in strings only, and no character that
        // is not printable takes two UTF-16 units.
        match letter == '\n' || is_printable(letter) {
            true => text.push(letter),
            false => text.push_str(&format!("\\u{:04x}", u32::from(letter))),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_for_a_terminal_is_the_same_json() {
        let value = json!({"a\u{9b}": ["\u{1b}[2J\n", "\u{7f}\u{202e}猫🐈"]});
        let text = pretty(&value);
        assert!(
            text.split('\n').flat_map(str::chars).all(is_printable),
            "{text:?}"
        );
        assert!(text.contains("猫🐈"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
