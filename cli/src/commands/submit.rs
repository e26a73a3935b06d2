//! `warmq submit`

use super::result;
use crate::args::Submit;
use crate::client::{Client, Submission, pretty};
use crate::{exit, input, progress};

/// Submits a job; waits for its end if requested.
pub(super) async fn run(client: &Client, submit: Submit, json: bool) -> anyhow::Result<u8> {
    let submission = Submission {
        input: input::read(&submit.input)?,
        app: submit.app.app,
        path: submit.app.path,
        hint: submit.hint,
        priority: submit.priority.into(),
    };
    let submitted = client.submit(&submission).await?;
    let id = submitted.request_id;
    if !submit.wait && submit.save.is_none() {
        if json {
            println!("{}", pretty(&submitted));
        } else {
            println!("{id}");
        }
        return Ok(exit::OK);
    }
    // Standard output is reserved for the result.
    eprintln!("job {id}");
    let ended = progress::follow(client, id).await?;
    result::print_result(client, &ended, submit.save.as_deref()).await
}
