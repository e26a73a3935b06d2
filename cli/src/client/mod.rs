//! The router's HTTP API, typed. A cheap handle: clone it.

mod error;
mod messages;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

pub use error::Error;
pub use messages::{
    AppRecord, CreatedKey, DeadLetterRecord, DeadLetters, JobView, RouteRecord, RunResult,
    StepView, Submission, Submitted,
};

use warmq_process::tls;
use warmq_types::access::{ApiKey, NewKey};
use warmq_types::ids::{AppId, JobId, KeyId};
use warmq_types::runner::RunnerRecord;
use warmq_types::text::is_printable;

use messages::{Apps, Keys, Redriven, Runners};

/// How long to wait for a connection. Answers may take as long as they like.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// One router, as seen by HTTP.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    /// `Key …`, marked as sensitive: it does not print.
    authorization: Option<HeaderValue>,
}

impl Client {
    /// A client of the router at `url`, which sends `key` if there is one. Nothing is connected yet.
    ///
    /// # Errors
    /// The URL is not `http://…` or `https://…`, or the key holds characters that no header may.
    pub fn new(url: &str, key: Option<&str>) -> Result<Self, Error> {
        let setting = |what: &'static str, reason: String| Error::Setting { what, reason };
        let base = Url::parse(url.trim_end_matches('/'))
            .map_err(|error| setting("--url", format!("'{url}' is no URL ({error})")))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            let reason = format!("'{url}' does not begin with http:// or https://");
            return Err(setting("--url", reason));
        }
        let authorization = key
            .map(|key| HeaderValue::from_str(&format!("Key {key}")))
            .transpose()
            .map_err(|_| setting("WARMQ_KEY", "a character in it can not be sent".to_owned()))?
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

    /// The router's address, without a slash at its end.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Submits a job.
    ///
    /// # Errors
    /// The router refuses it or is away.
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
                reason: "a line break or control character in it can not be sent".to_owned(),
            })?;
            request = request.header("x-fal-runner-hint", value);
        }
        let priority = submission.priority.as_str();
        request = request.header("x-fal-queue-priority", priority);
        self.read(request).await
    }

    /// All that is known of a job; `None` when the router knows no such job.
    ///
    /// # Errors
    /// The router refuses or is away.
    pub async fn job(&self, id: JobId) -> Result<Option<JobView>, Error> {
        let request = self.request(Method::GET, &format!("/v1/jobs/{id}"));
        match self.read(request).await {
            Ok(job) => Ok(Some(job)),
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Cancels a job, and tells what is known of it then; `None` when the router knows no such job.
    ///
    /// # Errors
    /// The job ended otherwise before (status 400), or the router is away.
    pub async fn cancel(&self, id: JobId) -> Result<Option<JobView>, Error> {
        let request = self.request(Method::DELETE, &format!("/v1/jobs/{id}"));
        match self.read(request).await {
            Ok(job) => Ok(Some(job)),
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A job's result as fal's clients see it: the bare output, or the error's status and body.
    ///
    /// # Errors
    /// The router is away.
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

    /// A job's status in fal's words (`IN_QUEUE`, `IN_PROGRESS`, `COMPLETED`), unabridged, and its HTTP status.
    ///
    /// # Errors
    /// The router is away.
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

    /// The live runners, of one app or of all.
    ///
    /// # Errors
    /// The router refuses or is away.
    pub async fn runners(&self, app: Option<&AppId>) -> Result<Vec<RunnerRecord>, Error> {
        let query = app.map_or_else(String::new, |app| format!("?app={app}"));
        let request = self.request(Method::GET, &format!("/v1/runners{query}"));
        Ok(self.read::<Runners>(request).await?.runners)
    }

    /// The apps.
    ///
    /// # Errors
    /// The router refuses or is away.
    pub async fn apps(&self) -> Result<Vec<AppRecord>, Error> {
        let request = self.request(Method::GET, "/v1/apps");
        Ok(self.read::<Apps>(request).await?.apps)
    }

    /// The routes that the router's configuration declares.
    ///
    /// # Errors
    /// The router refuses or is away.
    pub async fn routes(&self) -> Result<Vec<RouteRecord>, Error> {
        let request = self.request(Method::GET, "/v1/apps");
        Ok(self.read::<Apps>(request).await?.routes)
    }

    /// Dead letters, of one app or all there are, the submissions for unknown apps among them.
    ///
    /// # Errors
    /// The router refuses or is away.
    pub async fn dead_letters(&self, app: Option<&AppId>) -> Result<DeadLetters, Error> {
        let place = app.map_or_else(String::new, |app| format!("/{app}"));
        let request = self.request(Method::GET, &format!("/v1/dead{place}"));
        self.read(request).await
    }

    /// A dead letter with its body; `place` as in [`DeadLetterRecord::place`].
    ///
    /// # Errors
    /// There is no such letter, or the router refuses or is away.
    pub async fn dead_letter(&self, place: &str, id: JobId) -> Result<Value, Error> {
        let request = self.request(Method::GET, &format!("/v1/dead/{place}/{id}"));
        self.read(request).await
    }

    /// Tries a dead letter's job again. The id of the job.
    ///
    /// # Errors
    /// There is no such letter or it is no job's, or the router refuses or is away.
    pub async fn redrive(&self, place: &str, id: JobId) -> Result<JobId, Error> {
        let path = format!("/v1/dead/{place}/{id}/redrive");
        let request = self.request(Method::POST, &path);
        Ok(self.read::<Redriven>(request).await?.job_id)
    }

    /// Throws a dead letter away.
    ///
    /// # Errors
    /// There is no such letter, or the router refuses or is away.
    pub async fn drop_dead_letter(&self, place: &str, id: JobId) -> Result<(), Error> {
        let request = self.request(Method::DELETE, &format!("/v1/dead/{place}/{id}"));
        self.accepted(request).await.map(drop)
    }

    /// Makes a key.
    ///
    /// # Errors
    /// The router refuses or is away.
    pub async fn create_key(&self, key: &NewKey) -> Result<CreatedKey, Error> {
        self.read(self.request(Method::POST, "/v1/keys").json(key))
            .await
    }

    /// The keys, the oldest first.
    ///
    /// # Errors
    /// The router refuses or is away.
    pub async fn keys(&self) -> Result<Vec<ApiKey>, Error> {
        let request = self.request(Method::GET, "/v1/keys");
        Ok(self.read::<Keys>(request).await?.keys)
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// There is no such key, or it is the last that may manage the others; or the router refuses or is away.
    pub async fn revoke_key(&self, id: &KeyId) -> Result<(), Error> {
        let request = self.request(Method::DELETE, &format!("/v1/keys/{id}"));
        self.accepted(request).await.map(drop)
    }

    /// Whether the router is ready for jobs.
    ///
    /// # Errors
    /// It says that it is not, or is away.
    pub async fn ready(&self) -> Result<(), Error> {
        let request = self.request(Method::GET, "/readyz");
        self.accepted(request).await.map(drop)
    }

    /// A file that an output names by its URL. The key goes only to the router itself.
    ///
    /// # Errors
    /// There is no such file, or its server is away.
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
            .map_err(|source| match tls::distrust(&source) {
                Some(reason) => Error::Untrusted { url: url(), reason },
                None => Error::Unreachable { url: url(), source },
            })
    }

    /// Sends and insists on a 2xx.
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

/// `value` as indented JSON, for programs and terminals: characters that a terminal would obey are escaped, which is the
/// same JSON.
pub fn pretty(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or(Value::Null);
    let mut text = String::new();
    for letter in format!("{value:#}").chars() {
        // Outside of strings JSON has no others than line breaks, and no character that is not plain takes two units.
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
