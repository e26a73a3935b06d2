//! `warmq apps`

use crate::client::{Client, pretty};
use crate::exit;
use crate::table::Table;

/// Lists the apps.
pub(super) async fn run(client: &Client, json: bool) -> anyhow::Result<u8> {
    let apps = client.apps().await?;
    if json {
        println!("{}", pretty(&apps));
    } else if apps.is_empty() {
        println!(
            "no apps yet: an app is there once a worker serves it (warmq-worker --app owner/name)"
        );
    } else {
        let mut table = Table::new(["APP", "QUEUED", "RUNNERS", "POLICY"]).right([1, 2]);
        for app in apps {
            let (queued, runners) = (app.queued.to_string(), app.runners.to_string());
            table.row([app.app.to_string(), queued, runners, app.policy]);
        }
        println!("{table}");
    }
    Ok(exit::OK)
}
