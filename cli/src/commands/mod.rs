//! One file per command. Each prints its output on standard output and returns the exit status.

mod apps;
mod cancel;
mod completions;
mod dead;
mod explain;
mod jobs;
mod keys;
mod logs;
mod man;
mod result;
mod routes;
mod runners;
mod status;
mod submit;
mod top;
mod usage;

use warmq_config::SecretText;
use warmq_types::http::Job;
use warmq_types::ids::JobId;

use crate::args::{Cli, Command};
use crate::client::Client;
use crate::exit::Usage;

/// Runs a command.
///
/// # Errors
/// The command failed; [`crate::exit::status_of`] maps the error to an exit status.
pub async fn run(cli: Cli) -> anyhow::Result<u8> {
    let json = cli.global.json;
    let key = cli.global.key.as_ref().map(SecretText::expose);
    let client = Client::new(&cli.global.url, key)?;
    match cli.command {
        Command::Routes(command) => routes::run(command, key, json),
        Command::Submit(submit) => submit::run(&client, submit, json).await,
        Command::Status { id } => status::run(&client, id, json).await,
        Command::Result { id, save } => result::run(&client, id, save.as_deref()).await,
        Command::Jobs(args) => jobs::run(&client, args, json).await,
        Command::Logs { id, follow } => logs::run(&client, id, follow, json).await,
        Command::Cancel { id } => cancel::run(&client, id, json).await,
        Command::Runners { app, change: None } => runners::run(&client, app.as_ref(), json).await,
        Command::Runners {
            app,
            change: Some(change),
        } => runners::change(&client, app.as_ref(), change, json).await,
        Command::Usage(args) => usage::run(&client, args, json).await,
        Command::Apps => apps::run(&client, json).await,
        Command::Top { interval, app } => top::run(&client, interval, app.as_ref(), json).await,
        Command::Dead(dead) => dead::run(&client, dead, json).await,
        Command::Keys(keys) => keys::run(&client, keys, json).await,
        Command::Explain { id } => explain::run(&client, id, json).await,
        Command::Completions { shell } => completions::run(shell),
        Command::Man => man::run(),
    }
}

/// Returns a job that must exist.
async fn known_job(client: &Client, id: JobId) -> anyhow::Result<Job> {
    let job = client.job(id).await?;
    job.ok_or_else(|| unknown_job(client, id).into())
}

fn unknown_job(client: &Client, id: JobId) -> Usage {
    let url = client.url();
    let reason = "it does not exist, or expired after its app's `retention` (a day by default)";
    Usage(format!("job {id} not found at {url}: {reason}"))
}
