//! Name resolution. Forbidden addresses are dropped here, between the DNS response and the
//! connection, so a later response cannot differ.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::allowed::Allowed;

/// No allowed address; the submitter receives no details.
#[derive(Debug, thiserror::Error)]
#[error("no address that may be reached")]
pub(crate) struct NoAddress;

/// The system's resolver, with the check behind it.
#[derive(Debug)]
pub(crate) struct Gated(pub(crate) Arc<Allowed>);

impl Resolve for Gated {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            let name = name.as_str();
            // The URL's own port, or its scheme's, replaces 0.
            let found: Vec<SocketAddr> = match tokio::net::lookup_host((name, 0)).await {
                Ok(found) => found.collect(),
                Err(error) => {
                    tracing::debug!(name, %error, "a stranger's name is not resolved");
                    return Err(NoAddress.into());
                }
            };
            let (open, closed): (Vec<_>, Vec<_>) = found
                .into_iter()
                .partition(|address| allowed.reaches(address.ip()));
            if !closed.is_empty() {
                tracing::info!(
                    name,
                    ?closed,
                    "a stranger's name has addresses that may not be reached (--fetch-allow)"
                );
            }
            match open.is_empty() {
                true => Err(NoAddress.into()),
                false => Ok(Box::new(open.into_iter()) as Addrs),
            }
        })
    }
}
