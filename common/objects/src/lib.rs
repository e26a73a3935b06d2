//! Pictures and other files of jobs, in object storage. Workers write them, routers serve them.
//!
//! Inputs and outputs name a file by its **reference**, `warmq://files/<key>`. The router replaces
//! references with signed URLs in responses, and signed URLs with references in inputs, so workers
//! need no address of a router. A submission can contain URLs only, so a worker may read whatever a
//! reference names.
//!
//! Every call fails if the storage refuses it; `# Errors` names further reasons.

mod error;
mod storage;
mod streams;

pub use error::{Error, InputError};
pub use storage::{ListedFile, ObjectStorage, REFERENCE_PREFIX};
pub use streams::{FileWriter, StoredFile, WRITE_BUFFER_BYTES};
