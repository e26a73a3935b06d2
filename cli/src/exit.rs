//! Exit statuses, and the errors that map to them.

use warmq_config::{EXIT_BAD_CONFIG, Problems};
use warmq_types::ids::InvalidName;

use crate::client;
use crate::input;

/// Success.
pub const OK: u8 = 0;

/// The job failed, or an unexpected error occurred.
pub const FAILED: u8 = 1;

/// The command line or the request is invalid.
pub const USAGE: u8 = 2;

/// The router or one of its servers is unreachable (`EX_UNAVAILABLE` of sysexits.h).
pub const UNREACHABLE: u8 = 69;

/// The job has not ended, or the queue is full: retry later (`EX_TEMPFAIL` of sysexits.h).
pub const NOT_YET: u8 = 75;

/// Returns the exit status for an error.
pub fn status_of(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<client::Error>() {
        return match error {
            client::Error::Unreachable { .. }
            | client::Error::Untrusted { .. }
            | client::Error::Refused {
                status: 502..=504, ..
            } => UNREACHABLE,
            client::Error::Refused { status: 429, .. } => NOT_YET,
            client::Error::Refused {
                status: 400..=499, ..
            }
            | client::Error::Setting { .. } => USAGE,
            client::Error::Refused { .. } | client::Error::Unreadable { .. } => FAILED,
        };
    }
    if error.is::<Problems>() {
        return EXIT_BAD_CONFIG;
    }
    let usage = error.is::<input::Error>() || error.is::<InvalidName>() || error.is::<Usage>();
    if usage { USAGE } else { FAILED }
}

/// Returns whether a later request may succeed: the router is unreachable or lacks a server.
pub fn is_temporary(error: &client::Error) -> bool {
    matches!(
        error,
        client::Error::Unreachable { .. }
            | client::Error::Refused {
                status: 500..=599,
                ..
            }
    )
}

/// Formats an error and its causes in one line. Own errors include their causes.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        if cause.is::<client::Error>() || cause.is::<input::Error>() {
            break;
        }
    }
    text
}

/// An invalid request.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_without_its_servers_counts_as_unreachable() {
        let refused = |status| {
            status_of(&anyhow::Error::from(client::Error::Refused {
                status,
                error_type: None,
                message: String::new(),
            }))
        };
        assert_eq!(refused(503), UNREACHABLE);
        assert_eq!(refused(422), USAGE);
        assert_eq!(refused(429), NOT_YET);
        assert_eq!(refused(500), FAILED);
    }
}
