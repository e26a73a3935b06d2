//! Inputs that are kept in the object storage.

use serde::{Deserialize, Serialize};

/// Largest input that a job's messages and record carry, bytes of JSON. A larger one is an object in the storage, and they
/// carry a [`StoredInput`]: RabbitMQ, Redis and dispatchers handle small things only.
pub const MAX_INLINE_INPUT_BYTES: usize = 64 * 1024;

/// Refers to an input in the object storage. Routers alone create references: a submitter gives an input, never this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredInput {
    /// The object's key.
    pub key: String,
    /// Size of the input as JSON, bytes.
    pub bytes: u64,
    /// SHA-256 of the JSON, in hex.
    pub sha256: String,
}
