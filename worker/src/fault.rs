//! A runner's fault: a failure of an attempt that is not the job's.

use std::fmt;

use warmq_types::fault::FaultKind;
use warmq_types::text::shortened;

/// Length limit of the message for a job's owner, bytes.
const MAX_MESSAGE_BYTES: usize = 296;

/// Why a runner could not run a job, or cannot run any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The fault's class.
    pub kind: FaultKind,
    /// The message for the job's owner: no paths, no addresses.
    pub message: String,
    /// The cause, for operators: logs and `warmq runners`.
    pub details: String,
}

impl Fault {
    /// Creates a fault whose details equal its message.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        let message = shortened(message.into(), MAX_MESSAGE_BYTES);
        Self {
            kind,
            details: message.clone(),
            message,
        }
    }

    /// Adds details that only operators see.
    #[must_use]
    pub fn because(self, details: impl fmt::Display) -> Self {
        Self {
            details: format!("{}: {details}", self.message),
            ..self
        }
    }

    /// Returns whether only a new process can recover: a thread that hangs cannot be ended, and a
    /// device context that failed stays unusable.
    pub(crate) fn is_unrecoverable(&self) -> bool {
        matches!(self.kind, FaultKind::Hang | FaultKind::Device)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owners_sentence_is_short_and_the_details_are_the_operators() {
        let fault = Fault::new(FaultKind::Storage, "the storage refused a file");
        let fault = fault.because("/srv/files: no space left on device");
        assert_eq!(fault.message, "the storage refused a file");
        assert_eq!(
            fault.to_string(),
            "storage: the storage refused a file: /srv/files: no space left on device"
        );
        let long = Fault::new(FaultKind::Model, "é".repeat(1000));
        assert!(long.message.len() < 300, "{} bytes", long.message.len());
    }
}
