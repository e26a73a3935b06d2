//! Authentication and authorization by API keys.
//!
//! | module | content |
//! | --- | --- |
//! | [`caller`] | the rights of a caller: pure |
//! | [`header`] | parses the key in `Authorization` |
//! | [`keyring`] | a copy of all keys |
//!
//! A layer in front of the handlers (`api::auth`) authenticates each request and passes a
//! [`Caller`] on. Submitting and finding a job (`api::owned_job`) require one, so no handler can
//! omit the authorization.

pub mod caller;
pub mod header;
pub mod keyring;

use std::net::SocketAddr;

pub use caller::{Caller, Denied, Right};
pub use header::NoKey;
pub use keyring::{AuthError, Keyring, SESSION_LIFETIME};

/// A router without keys would be reachable from other machines.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "listen: {0} can be reached from other machines, and no keys exist yet, so requests would need none: set \
     --admin-key id:secret (WARMQ_ADMIN_KEY), or start on 127.0.0.1 first and create one (`warmq keys create root --scope \
     admin`); or set --allow-anonymous if a proxy in front of the router authenticates"
)]
pub struct OpenToStrangers(SocketAddr);

/// Checks that a router may listen at `address`. `require_keys`: requests need a key.
///
/// # Errors
/// Other machines could send requests without a key.
pub fn may_listen(
    address: SocketAddr,
    require_keys: bool,
    allow_anonymous: bool,
) -> Result<(), OpenToStrangers> {
    match require_keys || allow_anonymous || address.ip().is_loopback() {
        true => Ok(()),
        false => Err(OpenToStrangers(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_is_protected_by_its_address_or_by_keys_or_by_a_proxy() {
        let may = |address: &str, require_keys, anonymous| {
            may_listen(address.parse().unwrap(), require_keys, anonymous).is_ok()
        };
        for loopback in ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1"] {
            assert!(may(loopback, false, false), "{loopback}");
        }
        for open in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            assert!(!may(open, false, false), "{open}");
            assert!(may(open, true, false) && may(open, false, true), "{open}");
        }
        let error = may_listen("0.0.0.0:8080".parse().unwrap(), false, false);
        let error = error.unwrap_err().to_string();
        for way in [
            "0.0.0.0:8080",
            "--admin-key",
            "--allow-anonymous",
            "127.0.0.1",
        ] {
            assert!(error.contains(way), "{error}");
        }
    }
}
