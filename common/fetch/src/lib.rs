//! What may be reached from here: an HTTP client for URLs that strangers give.
//!
//! Whoever may name a URL to a server may have it look at what only the server can reach: other programs on its machine, its
//! network, its cloud's metadata with the credentials in it. So:
//!
//! * A host's addresses are checked **after they were resolved**, and a connection is made to one of those that were checked:
//!   the client's own resolver drops the others, and nobody asks a second time. An address in the URL itself never comes to a
//!   resolver, so it is checked in the URL, in whatever way it is spelled there.
//! * Only addresses that anybody on the Internet could reach pass, and those that the operator names ([`Allowed`]).
//! * A redirect is an answer, not followed for [`Fetcher::post`]; for [`Fetcher::get`] each hop is a URL that a stranger gave.
//! * `http` and `https` only, no names and passwords in URLs, no proxies: a proxy would resolve by itself.
//! * Time and size are bounded by the caller. Connections are not kept: each is checked anew.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`address`] | which addresses are anybody's: pure |
//! | [`allowed`] | the ranges that may be reached all the same |
//! | `resolver` | names to addresses, those that may not be reached dropped |
//! | [`fetcher`] | the client |
//! | [`error`] | what went wrong, for users: nothing of this network in it |

pub mod address;
pub mod allowed;
pub mod error;
pub mod fetcher;
mod resolver;

pub use allowed::Allowed;
pub use error::Error;
pub use fetcher::{Fetched, Fetcher};
