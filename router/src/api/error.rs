//! Error responses: JSON in fal's two formats.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use warmq_types::job::JobError;
use warmq_types::state::JobState;

use crate::access::Denied;
use crate::finalizer::EndError;
use crate::submit::SubmitError;

/// Default of `Retry-After`, s.
const RETRY_AFTER_S: u64 = 2;

/// Value of `WWW-Authenticate`.
const CHALLENGE: &str = "Key realm=\"warmq\"";

/// An error response.
#[derive(Debug)]
pub(super) struct ApiError {
    job_error: JobError,
    /// Time after which a repetition is accepted, if known, s.
    retry_after_s: Option<u64>,
}

impl ApiError {
    /// Returns an error with one message.
    pub(super) fn plain(status: StatusCode, error_type: &str, message: impl Into<String>) -> Self {
        let job_error = JobError {
            status: status.as_u16(),
            error_type: error_type.to_owned(),
            message: message.into(),
            detail: Vec::new(),
        };
        job_error.into()
    }

    /// Returns whether the status is 404.
    pub(super) fn is_not_found(&self) -> bool {
        self.job_error.status == StatusCode::NOT_FOUND
    }

    /// Returns whether the status is 401.
    pub(super) fn is_unauthorized(&self) -> bool {
        self.job_error.status == StatusCode::UNAUTHORIZED
    }

    /// Returns the error of a request without a valid key.
    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::plain(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::plain(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::plain(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn no_such_job(id: &str) -> Self {
        let id: String = id.chars().take(80).collect();
        Self::not_found(format!(
            "job '{id}' does not exist, or its record has expired"
        ))
    }

    /// Not 409, which fal's Python client repeats for a minute.
    pub(super) fn already_ended(state: JobState) -> Self {
        let message = format!(
            "the job cannot be cancelled: it {}",
            match state {
                JobState::Succeeded => "has succeeded",
                JobState::Failed => "has failed",
                JobState::Expired => "has expired",
                _ => "has ended",
            }
        );
        Self::plain(StatusCode::BAD_REQUEST, "already_completed", message)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::plain(
            status,
            "method_not_allowed",
            "this path does not support the method",
        )
    }

    pub(super) fn realtime() -> Self {
        Self::plain(
            StatusCode::BAD_REQUEST,
            "realtime_not_offered",
            "realtime is not supported: submit to /queue, or stream a job at /run/{owner}/{app}/stream",
        )
    }

    pub(super) fn too_large(limit_bytes: usize) -> Self {
        let message = format!(
            "the body is larger than {limit_bytes} bytes (--max-body): upload large files (POST /storage/upload/initiate) and \
             send their URLs"
        );
        Self::plain(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
    }

    /// Returns the error of a body that did not arrive in time.
    pub(super) fn too_slow() -> Self {
        let message = "the body arrived too slowly; send the request again";
        Self::plain(StatusCode::REQUEST_TIMEOUT, "request_body_timeout", message)
    }

    pub(super) fn too_many_connections() -> Self {
        Self::unavailable("the router has reached its limit of connections; try again soon")
    }

    pub(super) fn too_many_bodies() -> Self {
        Self::unavailable("the router has no memory for further request bodies; try again soon")
    }

    pub(super) fn too_many_streams(bound: usize) -> Self {
        Self::unavailable(format!(
            "the router has reached its limit of {bound} event streams; try again soon, or poll the status"
        ))
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::plain(status, "runner_scheduling_failure", message)
    }

    /// The client disconnected, so nothing reads the response.
    pub(super) fn client_disconnected() -> Self {
        let job_error = JobError {
            status: 499,
            error_type: "client_disconnected".to_owned(),
            message: "the client disconnected".to_owned(),
            detail: Vec::new(),
        };
        job_error.into()
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        JobError::internal("internal_error", message).into()
    }
}

impl From<JobError> for ApiError {
    fn from(job_error: JobError) -> Self {
        Self {
            job_error,
            retry_after_s: None,
        }
    }
}

impl From<ApiError> for JobError {
    fn from(error: ApiError) -> Self {
        error.job_error
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let job_error = error.to_job_error();
        if job_error.status >= 500 {
            tracing::warn!(%error, "could not accept a job");
        }
        Self {
            job_error,
            retry_after_s: error.retry_after_s(),
        }
    }
}

impl From<Denied> for ApiError {
    fn from(error: Denied) -> Self {
        SubmitError::from(error).into()
    }
}

impl From<warmq_store::Error> for ApiError {
    fn from(error: warmq_store::Error) -> Self {
        tracing::warn!(%error, "could not read or write Redis");
        match error {
            warmq_store::Error::Damaged { .. } => {
                Self::internal("a record is damaged: see the router's log")
            }
            _ => Self::unavailable("Redis is unavailable; try again soon"),
        }
    }
}

impl From<EndError> for ApiError {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Store(error) => error.into(),
            EndError::Announce(error) => {
                tracing::warn!(%error, "could not announce a job's end");
                Self::unavailable(
                    "the job has ended, but its event cannot be published: RabbitMQ is unavailable; try again soon",
                )
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self {
            job_error: error,
            retry_after_s,
        } = self;
        let status =
            StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(error.body())).into_response();
        let headers = response.headers_mut();
        if let Ok(error_type) = HeaderValue::from_str(&error.error_type) {
            headers.insert("x-fal-error-type", error_type);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(CHALLENGE),
            );
        }
        if matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            let retry_after_s = retry_after_s.unwrap_or(RETRY_AFTER_S);
            headers.insert(header::RETRY_AFTER, retry_after_s.into());
        }
        response
    }
}
