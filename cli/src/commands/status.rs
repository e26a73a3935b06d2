//! `warmq status`

use warmq_types::ids::JobId;

use super::known_job;
use crate::client::{Client, pretty};
use crate::{exit, progress};

/// Prints a job's status.
pub(super) async fn run(client: &Client, id: JobId, json: bool) -> anyhow::Result<u8> {
    let job = known_job(client, id).await?;
    if json {
        println!("{}", pretty(&job));
    } else {
        println!("{}", progress::sentence(&job));
    }
    Ok(exit::OK)
}
