//! Batches this process' bids for leadership: one script handles many apps.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use warmq_store::Store;
use warmq_types::ids::AppId;

use super::leadership::LEADER_LEASE;

/// How long a bid waits for others to form a batch; batched bids recur together.
const BID_BATCH_DELAY: Duration = Duration::from_millis(50);

const MAX_QUEUED_BIDS: usize = 1000;

type Leads = Result<bool, Arc<warmq_store::Error>>;

struct Bid {
    app: AppId,
    candidate: String,
    leads: oneshot::Sender<Leads>,
}

/// Handle on the batching task, which ends with the last handle.
#[derive(Clone)]
pub(super) struct BidBatches {
    bids: mpsc::Sender<Bid>,
    store: Store,
}

impl BidBatches {
    pub(super) fn start(store: Store) -> Self {
        let (bids, queue) = mpsc::channel(MAX_QUEUED_BIDS);
        tokio::spawn(send_bids(queue, store.clone()));
        Self { bids, store }
    }

    /// Takes or renews the leadership of an app. Returns whether the candidate leads.
    pub(super) async fn lead(&self, app: &AppId, candidate: &str) -> Leads {
        let (leads, answer) = oneshot::channel();
        let (app, candidate) = (app.clone(), candidate.to_owned());
        let bid = Bid {
            app: app.clone(),
            candidate: candidate.clone(),
            leads,
        };
        // Without the task, which ends early only by a panic, each bid is sent alone.
        if self.bids.send(bid).await.is_ok()
            && let Ok(leads) = answer.await
        {
            return leads;
        }
        let alone = self
            .store
            .leadership()
            .lead(&[(app, candidate)], LEADER_LEASE)
            .await;
        Ok(alone.map_err(Arc::new)?.contains(&true))
    }
}

async fn send_bids(mut queue: mpsc::Receiver<Bid>, store: Store) {
    let mut gathered = Vec::new();
    while queue.recv_many(&mut gathered, MAX_QUEUED_BIDS).await > 0 {
        tokio::time::sleep(BID_BATCH_DELAY).await;
        while let Ok(bid) = queue.try_recv() {
            gathered.push(bid);
        }
        let bids: Vec<(AppId, String)> = (gathered.iter())
            .map(|bid| (bid.app.clone(), bid.candidate.clone()))
            .collect();
        let leads = store
            .leadership()
            .lead(&bids, LEADER_LEASE)
            .await
            .map_err(Arc::new);
        for (i, bid) in gathered.drain(..).enumerate() {
            let answer = leads.clone().map(|leads| leads.get(i) == Some(&true));
            // A stopped follower dropped its receiver.
            let _ = bid.leads.send(answer);
        }
    }
}
