//! Keys: what their holders may do, how much of it, and how a holder is told from a stranger. No I/O here.
//!
//! A key is `id:secret`. The id may be seen: it names the owner of a job. The secret is 32 random bytes in hexadecimal; it is
//! shown once, when the key is made, and kept nowhere: Redis has its hash.

mod key;
mod limits;
mod scope;
mod secret;

pub use key::{AdminKey, ApiKey, NewKey, StoredKey};
pub use limits::{InvalidRate, Limits, Rate};
pub use scope::{AppPattern, InvalidScope, Scope};
pub use secret::{Credentials, NoCredentials, SecretHash};
