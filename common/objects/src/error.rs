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
    #[error("the file has {bytes} bytes, more than the limit of {most}")]
    TooLarge {
        /// Size of the file, bytes.
        bytes: u64,
        /// The limit, bytes.
        most: usize,
    },
    /// A file differs from what was written.
    #[error("a file read back differs from what was written: check the storage")]
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
        "the job's input does not exist in the storage: {key} was deleted, or router and workers have different --storage"
    )]
    Missing {
        /// The object's key.
        key: String,
    },
    /// The content differs from what was stored.
    #[error("the job's input is damaged: the content of {key} changed in the storage")]
    Damaged {
        /// The object's key.
        key: String,
    },
    /// The storage does not respond.
    #[error("the job's input cannot be read from the storage: no response within {seconds} s")]
    TimedOut {
        /// Duration of the wait, s.
        seconds: u64,
    },
    /// The storage fails.
    #[error("the job's input cannot be read from the storage: {0}")]
    Storage(#[from] Error),
}
