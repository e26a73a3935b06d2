//! Errors of the storage.

/// Why an operation of the storage failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder is missing and cannot be created, or the URL is invalid.
    #[error("storage {url} cannot be opened: {reason}")]
    Open {
        /// The URL, without secrets.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The file exceeds the reader's limit.
    #[error("{bytes} bytes; at most {most} are read")]
    TooLarge {
        /// Size of the file, bytes.
        bytes: u64,
        /// The limit, bytes.
        most: usize,
    },
    /// A file differs from what was written.
    #[error("a file that was just written is read back as something else")]
    Altered,
    /// A read or write failed.
    #[error(transparent)]
    Store(#[from] object_store::Error),
}

/// Why a stored input is not readable.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The object was deleted, or this process uses another storage.
    #[error(
        "the job's input is not in the storage (any more): {key} was deleted, or router and workers have different --storage"
    )]
    Missing {
        /// The object's key.
        key: String,
    },
    /// The content differs from what was stored.
    #[error("the job's input is damaged in the storage: {key} is not what was stored there")]
    Damaged {
        /// The object's key.
        key: String,
    },
    /// The storage does not respond.
    #[error("the job's input cannot be read from the storage: no answer within {seconds} s")]
    TimedOut {
        /// Duration of the wait, s.
        seconds: u64,
    },
    /// The storage fails.
    #[error("the job's input cannot be read from the storage: {0}")]
    Storage(#[from] Error),
}
