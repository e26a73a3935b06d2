//! Who may do what.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`caller`] | who asks, and what it may do: pure |
//! | [`header`] | the key in a request's `Authorization` |
//! | [`keyring`] | the keys that there are, as this router knows them |
//!
//! Each request is asked once, in front of the handlers (`api::gate`), and becomes a [`Caller`].
//! Submitting takes one, and so does finding a job (`api::own`): a handler that forgot to ask could
//! do neither.

pub mod caller;
pub mod header;
pub mod keyring;

use std::net::SocketAddr;

pub use caller::{Caller, Denied, Right};
pub use header::NoKey;
pub use keyring::{AuthError, Keyring};

/// A router without keys would be reachable by strangers.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "listen: {0} can be reached from other machines, and no keys exist yet, so requests would need none: set \
     --admin-key id:secret (WARMQ_ADMIN_KEY), or start on 127.0.0.1 first and create one (`warmq keys create root --scope \
     admin`); or set --allow-anonymous if a proxy in front of the router authenticates"
)]
pub struct OpenToStrangers(SocketAddr);

/// Whether a router may listen at `address`. `asks`: it asks for keys.
///
/// # Errors
/// Others than this machine could do whatever they like.
pub fn may_listen(
    address: SocketAddr,
    asks: bool,
    allow_anonymous: bool,
) -> Result<(), OpenToStrangers> {
    match asks || allow_anonymous || address.ip().is_loopback() {
        true => Ok(()),
        false => Err(OpenToStrangers(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_kept_out_by_the_address_or_by_keys_or_by_whoever_says_so() {
        let may = |address: &str, asks, anonymous| {
            may_listen(address.parse().unwrap(), asks, anonymous).is_ok()
        };
        for loopback in ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1"] {
            assert!(may(loopback, false, false), "{loopback}");
        }
        for open in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            assert!(!may(open, false, false), "{open}");
            assert!(may(open, true, false) && may(open, false, true), "{open}");
        }
        let told = may_listen("0.0.0.0:8080".parse().unwrap(), false, false);
        let told = told.unwrap_err().to_string();
        for way in [
            "0.0.0.0:8080",
            "--admin-key",
            "--allow-anonymous",
            "127.0.0.1",
        ] {
            assert!(told.contains(way), "{told}");
        }
    }
}
