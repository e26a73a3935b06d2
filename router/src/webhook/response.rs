//! Meaning of a receiver's response, and what follows: pure.

use axum::http::StatusCode;
use warmq_process::retry::{WEBHOOK_RETRIES, before_next_webhook_attempt};
use warmq_store::AfterAttempt;

/// Result of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ResponseAction {
    /// Whether to retry.
    pub(super) then: AfterAttempt,
    /// `delivered`, `retried` or `given_up`.
    pub(super) outcome: &'static str,
    /// Level of the log line.
    pub(super) level: &'static str,
    /// Log line for the job's owner.
    pub(super) line: String,
}

impl ResponseAction {
    /// Evaluates the response of `host` to attempt number `attempt` (from 1): 2xx is success, 3xx
    /// is final, anything else is retried.
    pub(super) fn of(
        host: &str,
        answer: Result<StatusCode, warmq_fetch::Error>,
        attempt: u32,
    ) -> Self {
        let given_up = |line| Self {
            then: AfterAttempt::Over,
            outcome: "given_up",
            level: "ERROR",
            line,
        };
        let reason = match answer {
            Ok(status) if status.is_success() => {
                return Self {
                    then: AfterAttempt::Over,
                    outcome: "delivered",
                    level: "INFO",
                    line: format!("webhook delivered: {host} answered {}", status.as_u16()),
                };
            }
            Ok(status) if status.is_redirection() => {
                return given_up(format!(
                    "webhook given up: {host} answered {}, and redirects are not followed",
                    status.as_u16()
                ));
            }
            Ok(status) => format!("{host} answered {}", status.as_u16()),
            Err(error) => error.to_string(),
        };
        match before_next_webhook_attempt(attempt) {
            None => given_up(format!(
                "webhook given up after {attempt} attempts: {reason}"
            )),
            Some(wait) => Self {
                then: AfterAttempt::Again(wait),
                outcome: "retried",
                level: "WARN",
                line: format!(
                    "webhook not delivered yet: {reason}; attempt {} of {} follows in {} s",
                    attempt + 1,
                    WEBHOOK_RETRIES + 1,
                    wait.as_secs()
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn action(status: u16, attempt: u32) -> ResponseAction {
        let status = StatusCode::from_u16(status).unwrap();
        ResponseAction::of("example.com", Ok(status), attempt)
    }

    #[test]
    fn success_is_the_end_and_so_is_a_redirect() {
        for status in [200, 201, 204, 299] {
            assert_eq!(action(status, 1).outcome, "delivered");
            assert_eq!(action(status, 11).then, AfterAttempt::Over);
        }
        for status in [301, 302, 303, 304, 307, 308] {
            let action = action(status, 1);
            assert_eq!(
                (action.outcome, action.then),
                ("given_up", AfterAttempt::Over)
            );
            assert!(action.line.contains("redirects are not followed"));
        }
    }

    #[test]
    fn everything_else_is_tried_again_ten_times() {
        let unreachable = || warmq_fetch::Error::Connect {
            host: "example.com".to_owned(),
        };
        for attempt in 1..=10 {
            let verdicts = [
                action(400, attempt),
                action(404, attempt),
                action(500, attempt),
                action(503, attempt),
                ResponseAction::of("example.com", Err(unreachable()), attempt),
                ResponseAction::of("example.com", Err(warmq_fetch::Error::Timeout), attempt),
            ];
            for action in verdicts {
                assert!(matches!(action.then, AfterAttempt::Again(_)), "{action:?}");
            }
        }
        let last = action(500, 11);
        assert_eq!((last.outcome, last.then), ("given_up", AfterAttempt::Over));
        assert_eq!(
            last.line,
            "webhook given up after 11 attempts: example.com answered 500"
        );
    }

    #[test]
    fn the_log_has_the_reason_and_the_time_of_the_next_attempt() {
        let first = action(500, 1);
        assert_eq!(first.then, AfterAttempt::Again(Duration::from_secs(7)));
        assert_eq!(
            first.line,
            "webhook not delivered yet: example.com answered 500; attempt 2 of 11 follows in 7 s"
        );
    }
}
