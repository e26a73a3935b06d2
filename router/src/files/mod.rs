//! Files as users see them: signed URLs and uploads.
//!
//! | module | contents |
//! | --- | --- |
//! | [`key`] | keys of files in the storage |
//! | [`signed_url`] | URLs that grant one use of one file until a time |
//! | [`references`] | converts signed URLs to `warmq://files/<key>` for workers, and back |
//! | [`lifetime`] | lifetimes that submitters choose |
//! | [`names`] | harmless file names and content types |
//! | [`uploads`] | uploads, whole or in parts |
//!
//! The signature is in the path, before the file's key, and not in a query: fal's Python client
//! appends to URLs, and other clients read the extension (`….png`).

pub mod key;
pub mod lifetime;
pub mod names;
pub mod references;
pub mod signed_url;
pub(crate) mod uploads;

pub use key::FileKey;
pub use signed_url::{InvalidSignature, SignedUrls, Use};
pub(crate) use uploads::{UploadError, Uploads};

use warmq_process::clock::shared_ms;

/// Returns the time of Redis' clock, Unix s: routers check each other's URLs.
pub fn now_s() -> u64 {
    shared_ms() / 1000
}
