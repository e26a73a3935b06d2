//! `warmq apps`

use warmq_types::ids::AppId;
use warmq_types::table::Table;

use crate::client::{Client, pretty};
use crate::exit;
use crate::time::duration;

/// Lists the apps; without `--json` the routes as well.
pub(super) async fn run(client: &Client, json: bool) -> anyhow::Result<u8> {
    let apps = client.apps().await?;
    if json {
        println!("{}", pretty(&apps));
    } else if apps.is_empty() {
        println!("no apps yet: start a worker for one (warmq-worker --app owner/name)");
    } else {
        let mut table = Table::new(["APP", "QUEUED", "RUNNERS", "WAIT", "POLICY"]).right([1, 2, 3]);
        for app in apps {
            let (queued, runners) = (app.queued.to_string(), app.runners.to_string());
            let wait = app.wait_s.map_or("-".to_owned(), wait);
            table.row([
                app.app.to_string(),
                queued,
                runners,
                wait,
                app.policy.to_string(),
            ]);
        }
        println!("{table}");
        let routes = client.routes().await?;
        if !routes.is_empty() {
            let mut table = Table::new(["ROUTE", "KIND", "TARGETS"]);
            for route in routes {
                let to: Vec<&str> = route.to.iter().map(AppId::as_str).collect();
                let kind = route.kind.as_str();
                table.row([route.route.as_str(), kind, to.join(", ").as_str()]);
            }
            println!("\n{table}");
        }
    }
    Ok(exit::OK)
}

/// Formats a predicted wait.
fn wait(wait_s: f64) -> String {
    match wait_s {
        0.0 => "none".to_owned(),
        wait_s => duration((wait_s * 1000.0) as u64),
    }
}
