//! API keys: scopes, limits, and verification of secrets. No I/O.
//!
//! A key is `id:secret`. The id is public and names the owner of a job. The secret is 32 random
//! bytes in hexadecimal; it is printed once at creation, and Redis stores its hash only.

mod key;
mod limits;
mod max_running;
mod scope;
mod secret;
mod session;
mod weight;

pub use key::{AdminKey, ApiKey, KeyChange, NewKey, StoredKey};
pub use limits::{InvalidRate, Limits, Rate};
pub use max_running::{InvalidMaxRunning, MaxRunning};
pub use scope::{AppPattern, InvalidScope, Scope};
pub use secret::{Credentials, NoCredentials, SecretHash};
pub use session::{InvalidToken, Session, SessionToken};
pub use weight::{InvalidWeight, Weight};
