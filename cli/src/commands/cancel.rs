//! `warmq cancel`

use warmq_types::ids::JobId;

use super::unknown_job;
use crate::client::{Client, pretty};
use crate::{exit, progress};

/// Cancels a job and prints its status. A job that already ended is a usage error.
pub(super) async fn run(client: &Client, id: JobId, json: bool) -> anyhow::Result<u8> {
    let cancelled = client.cancel(id).await?;
    let job = cancelled.ok_or_else(|| unknown_job(client, id))?;
    if json {
        println!("{}", pretty(&job));
    } else {
        println!("{}", progress::sentence(&job));
    }
    Ok(exit::OK)
}
