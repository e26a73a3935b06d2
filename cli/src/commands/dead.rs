//! `warmq dead`

use crate::args::{Dead, Letter};
use crate::client::{Client, pretty};
use crate::exit::{self, Usage};
use crate::time;
use warmq_types::http::DeadLetters;
use warmq_types::table::Table;

/// Lists, shows, redrives or deletes dead letters.
pub(super) async fn run(client: &Client, command: Dead, json: bool) -> anyhow::Result<u8> {
    match command {
        Dead::List { app } => {
            let found = client.dead_letters(app.as_ref()).await?;
            match json {
                true => println!("{}", pretty(&found.letters)),
                false => print_table(&found),
            }
        }
        Dead::Show(letter) => {
            let place = place(client, &letter).await?;
            println!("{}", pretty(&client.dead_letter(&place, letter.id).await?));
        }
        Dead::Redrive(letter) => {
            let place = place(client, &letter).await?;
            let redriven = client.redrive(&place, letter.id).await?;
            match json {
                true => println!("{}", pretty(&redriven)),
                false => println!("{}", redriven.job_id),
            }
        }
        Dead::Drop(letter) => {
            let place = place(client, &letter).await?;
            client.drop_dead_letter(&place, letter.id).await?;
        }
    }
    Ok(exit::OK)
}

/// Returns the queue of the letter.
async fn place(client: &Client, letter: &Letter) -> anyhow::Result<String> {
    let found = client.dead_letters(letter.app.as_ref()).await?;
    let mut letters = found.letters.into_iter();
    match letters.find(|other| other.id == letter.id) {
        Some(letter) => Ok(letter.place),
        None => {
            let url = client.url();
            Err(Usage(format!("dead letter {} not found at {url}", letter.id)).into())
        }
    }
}

fn print_table(found: &DeadLetters) {
    if found.letters.is_empty() {
        println!("no dead letters");
        return;
    }
    let mut table = Table::new(["ID", "APP", "WHAT", "SINCE", "REASON"]);
    for letter in &found.letters {
        table.row([
            letter.id.to_string(),
            letter.place.clone(),
            letter.kind.clone(),
            time::utc(letter.since_ms),
            letter.reason.clone(),
        ]);
    }
    println!("{table}");
    if found.truncated {
        println!("the list may be incomplete: it shows the oldest of each queue");
    }
}
