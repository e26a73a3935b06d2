//! An HTTP client for URLs that strangers give.
//!
//! A stranger who names a URL could make a server read what only the server can reach: other
//! programs on its machine, its network, its cloud's metadata with credentials. So:
//!
//! * A host's addresses are checked **after resolution**, and the connection uses one of the
//!   checked addresses: the client's own resolver drops the others, and there is no second
//!   resolution. An address in the URL never reaches a resolver, so it is checked in the URL, in
//!   any notation.
//! * Only public addresses pass, and those that the operator names ([`Allowed`]).
//! * [`Fetcher::post`] returns a redirect without following it; for [`Fetcher::get`] each hop is
//!   checked as a stranger's URL.
//! * `http` and `https` only, no credentials in URLs, no proxies: a proxy would resolve names by
//!   itself.
//! * The caller bounds time and size. Connections are not kept: each one is checked anew.
//!
//! | module | contents |
//! | --- | --- |
//! | [`address`] | public addresses: pure |
//! | [`allowed`] | ranges that are allowed besides |
//! | `resolver` | name resolution that drops forbidden addresses |
//! | [`fetcher`] | the client |
//! | [`error`] | errors for users, without facts of the local network |

pub mod address;
pub mod allowed;
pub mod error;
pub mod fetcher;
mod resolver;

pub use allowed::Allowed;
pub use error::Error;
pub use fetcher::{Fetched, Fetcher, Resource};
