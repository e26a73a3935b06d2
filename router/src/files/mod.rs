//! Files as users see them: links that cannot be guessed, and uploads.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`key`] | where a file stands in the storage |
//! | [`permit`] | what a link is worth: signed, for one use of one file, until a time |
//! | [`links`] | makes links and tells ours from others |
//! | [`references`] | links in what users see, `warmq://files/<key>` in what workers see |
//! | [`lifetime`] | how long links hold, if the submitter says so |
//! | [`names`] | file names and content types that nobody can do harm with |
//! | [`uploads`] | files that users bring, whole or in parts |
//!
//! Whoever has a link may read its file, and nobody else may. The permit stands in the path, before
//! the file's key, and not in a query: fal's Python client appends to links, and others look at how
//! they end (`….png`).

pub mod key;
pub mod lifetime;
pub mod links;
pub mod names;
pub mod permit;
pub mod references;
pub mod uploads;

pub use key::FileKey;
pub use links::Links;
pub use permit::{Refused, Use};
pub use uploads::{UploadError, Uploads};

use warmq_process::clock::shared_ms;

/// Now by Redis' clock, Unix s: links that one router signs are checked by others.
pub fn now_s() -> u64 {
    shared_ms() / 1000
}
