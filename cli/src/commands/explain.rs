//! `warmq explain`

use warmq_explain::Tree;
use warmq_types::ids::JobId;
use warmq_types::text::escape;

use super::known_job;
use crate::client::{Client, pretty};
use crate::{exit, time};

/// Explains a job, with the jobs of its steps.
pub(super) async fn run(client: &Client, id: JobId, json: bool) -> anyhow::Result<u8> {
    let job = known_job(client, id).await?;
    let tree = Tree::grow(job, |step| client.job(step.job)).await?;
    if json {
        println!("{}", pretty(&tree));
    } else {
        for sentence in warmq_explain::story(&tree, time::now_ms()) {
            println!("{}", escape(&sentence));
        }
    }
    Ok(exit::OK)
}
