//! Files as users see them: links that cannot be guessed, and uploads.
//!
//! | module | contents |
//! | --- | --- |
//! | [`key`] | keys of files in the storage |
//! | [`permit`] | signed permits: one use of one file, until a time |
//! | [`links`] | creates and recognizes links |
//! | [`references`] | converts links for users to `warmq://files/<key>` for workers, and back |
//! | [`lifetime`] | lifetimes that submitters choose |
//! | [`names`] | harmless file names and content types |
//! | [`uploads`] | uploads, whole or in parts |
//!
//! A link is the permission to read its file. The permit is in the path, before the file's key, and
//! not in a query: fal's Python client appends to links, and other clients read the extension
//! (`….png`).

pub mod key;
pub mod lifetime;
pub mod links;
pub mod names;
pub mod permit;
pub mod references;
pub(crate) mod uploads;

pub use key::FileKey;
pub use links::Links;
pub use permit::{InvalidPermit, Use};
pub(crate) use uploads::{UploadError, Uploads};

use warmq_process::clock::shared_ms;

/// Returns the time of Redis' clock, Unix s: routers check each other's links.
pub fn now_s() -> u64 {
    shared_ms() / 1000
}
