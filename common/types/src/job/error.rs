//! Errors of jobs, as their owners see them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::ids::RunnerId;

/// Error of a job: an HTTP status and fal's error body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobError {
    /// HTTP status of the result: 4xx for the job's own fault, 5xx for the server's.
    pub status: u16,
    /// fal's `error_type`, or the type of the first detail.
    pub error_type: String,
    /// The error in one sentence.
    pub message: String,
    /// Errors per field of the input (`[{loc, msg, type}]`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detail: Vec<FieldError>,
}

impl JobError {
    /// Returns an error in one field of the input.
    pub fn field(loc: &[&str], error_type: &str, message: impl Into<String>) -> Self {
        Self::fields(vec![FieldError {
            loc: std::iter::once("body")
                .chain(loc.iter().copied())
                .map(Value::from)
                .collect(),
            msg: message.into(),
            error_type: error_type.to_owned(),
        }])
    }

    /// Returns errors in the input: status 422.
    pub fn fields(detail: Vec<FieldError>) -> Self {
        let sentences: Vec<String> = detail.iter().map(FieldError::sentence).collect();
        Self {
            status: 422,
            error_type: detail.first().map_or_else(
                || "value_error".to_owned(),
                |first| first.error_type.clone(),
            ),
            message: sentences.join("; "),
            detail,
        }
    }

    /// Returns an error that is not the job's fault.
    pub fn internal(error_type: &str, message: impl Into<String>) -> Self {
        Self {
            status: 500,
            error_type: error_type.to_owned(),
            message: message.into(),
            detail: Vec::new(),
        }
    }

    /// Returns a timeout: the job had too little time, or ran for too long.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self {
            status: 504,
            error_type: "request_timeout".to_owned(),
            message: message.into(),
            detail: Vec::new(),
        }
    }

    /// Returns the error of a result that the broker never accepts: status 413.
    pub fn too_large_to_keep(reason: &impl std::fmt::Display) -> Self {
        Self {
            status: 413,
            error_type: "payload_too_large".to_owned(),
            message: format!("the outcome came while Redis was away and is too large ({reason})"),
            detail: Vec::new(),
        }
    }

    /// Returns the error of a job without attempts left, after `attempts` that lost their runners:
    /// status 503.
    pub fn quarantined(attempts: u32, lost: &[RunnerId]) -> Self {
        let names: Vec<&str> = lost.iter().map(RunnerId::as_str).collect();
        let message = match names.len() {
            0 => format!("it did not end within its {attempts} attempts"),
            1 => format!("it was running when its runner was lost: {}", names[0]),
            lost => format!(
                "it was running when {lost} runners were lost: {}",
                names.join(", ")
            ),
        };
        Self {
            status: 503,
            error_type: "runner_disconnected".to_owned(),
            message,
            detail: Vec::new(),
        }
    }

    /// Returns the body of the job's result, in one of fal's two error shapes.
    pub fn body(&self) -> Value {
        if self.detail.is_empty() {
            serde_json::json!({"detail": self.message, "error_type": self.error_type})
        } else {
            serde_json::json!({"detail": self.detail})
        }
    }
}

/// One error in an input, as FastAPI and fal shape it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Path of the field: `["body", "width"]`.
    pub loc: Vec<Value>,
    /// The error in words.
    pub msg: String,
    /// Stable name of the error.
    #[serde(rename = "type")]
    pub error_type: String,
}

impl FieldError {
    /// Formats `width: 7 is not a multiple of 8`.
    pub fn sentence(&self) -> String {
        let path: Vec<String> = self
            .loc
            .iter()
            .skip(1)
            .map(|part| {
                part.as_str()
                    .map_or_else(|| part.to_string(), str::to_owned)
            })
            .collect();
        if path.is_empty() {
            self.msg.clone()
        } else {
            format!("{}: {}", path.join("."), self.msg)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_error_has_fals_shape() {
        let error = JobError::field(&["width"], "multiple_of", "7 is not a multiple of 8");
        assert_eq!(error.status, 422);
        assert_eq!(error.message, "width: 7 is not a multiple of 8");
        assert_eq!(
            error.body(),
            serde_json::json!({"detail": [{"loc": ["body", "width"], "msg": "7 is not a multiple of 8", "type": "multiple_of"}]})
        );
    }

    #[test]
    fn an_internal_error_names_its_type() {
        assert_eq!(
            JobError::internal("runner_server_error", "the engine stopped").body(),
            serde_json::json!({"detail": "the engine stopped", "error_type": "runner_server_error"})
        );
    }
}
