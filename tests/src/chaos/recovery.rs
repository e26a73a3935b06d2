//! How long after a fault the next job ends: a probe is submitted right when the fault is healed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ledger::{Account, Ledger};
use super::orders::Order;
use super::plan::Kind;
use super::users::Users;

/// Probes under way at once: no fault waits for another's.
const PROBES: usize = 64;

/// The job after a fault.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// What was healed.
    kind: Kind,
    /// When, Unix ms.
    healed_ms: u64,
    /// The order's number.
    number: usize,
}

/// Submits a probe for each fault that is healed, until no more will be. Ends when all probes were accepted.
pub async fn probe(
    users: &Users,
    ledger: &Ledger,
    mut healed: mpsc::Receiver<Kind>,
    deadline: Instant,
) -> Vec<Probe> {
    let healed = futures::stream::poll_fn(|context| healed.poll_recv(context));
    healed
        .map(async |kind| {
            let healed_ms = now_ms();
            let order = ledger.open(Order::probe);
            users.see_through(&order, deadline).await;
            Probe {
                kind,
                healed_ms,
                number: order.number,
            }
        })
        .buffer_unordered(PROBES)
        .collect()
        .await
}

/// How long each kind took to recover; a probe that did not end is left out: it is among the bad jobs.
pub fn times(probes: &[Probe], accounts: &[Account]) -> Vec<(Kind, Duration)> {
    let ended = |probe: &Probe| accounts.get(probe.number)?.record.as_ref()?.finished_ms;
    let time = |probe: &Probe| {
        let took_ms = ended(probe)?.saturating_sub(probe.healed_ms);
        Some((probe.kind, Duration::from_millis(took_ms)))
    };
    probes.iter().filter_map(time).collect()
}

/// Redis on the same machine has the same clock.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
