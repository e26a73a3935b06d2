//! References to inputs in the object storage.

use serde::{Deserialize, Serialize};

/// Maximum size of an input in messages and records, bytes of JSON. A larger one is an object in
/// the storage, and they carry a [`StoredInput`], so RabbitMQ, Redis and dispatchers handle small
/// messages only.
pub const MAX_INLINE_INPUT_BYTES: usize = 64 * 1024;

/// Reference to an input in the object storage. Routers alone create references; a submission
/// cannot contain one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredInput {
    /// The object's key.
    pub key: String,
    /// Size of the input as JSON, bytes.
    pub bytes: u64,
    /// SHA-256 of the JSON, in hex.
    pub sha256: String,
}
