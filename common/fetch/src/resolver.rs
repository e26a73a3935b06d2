//! Names to addresses. What may not be reached is dropped here, between the answer of the DNS and the connection: whoever
//! answers otherwise the next time is not asked again.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::allowed::Allowed;

/// No address of the name may be reached, or it has none: strangers are told no more.
#[derive(Debug, thiserror::Error)]
#[error("no address that may be reached")]
pub(crate) struct NoAddress;

/// This machine's resolver, behind a gate.
#[derive(Debug)]
pub(crate) struct Gated(pub(crate) Arc<Allowed>);

impl Resolve for Gated {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            let name = name.as_str();
            // The URL's own port, or its scheme's, takes the place of 0.
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
