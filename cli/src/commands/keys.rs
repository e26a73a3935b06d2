//! `warmq keys`

use warmq_types::access::{ApiKey, Limits, NewKey, Rate};
use warmq_types::http::CreatedKey;
use warmq_types::table::Table;

use crate::args::{Keys, NewKeyArgs};
use crate::client::{Client, pretty};
use crate::exit::{self, Usage};
use crate::time;

/// Creates, lists or revokes keys.
pub(super) async fn run(client: &Client, command: Keys, json: bool) -> anyhow::Result<u8> {
    match command {
        Keys::Create(args) => {
            let made = client.create_key(&new_key(args)?).await?;
            match json {
                true => println!("{}", pretty(&made)),
                false => print_once(&made),
            }
        }
        Keys::List => {
            let keys = client.keys().await?;
            match json {
                true => println!("{}", pretty(&keys)),
                false => print_all(&keys),
            }
        }
        Keys::Revoke { id } => {
            client.revoke_key(&id).await?;
            if !json {
                println!("key {id}: revoked");
            }
        }
    }
    Ok(exit::OK)
}

fn new_key(args: NewKeyArgs) -> Result<NewKey, Usage> {
    let rate = args.rate.map(|rate| Rate::new(rate, args.burst));
    let rate = rate.transpose().map_err(|error| Usage(error.to_string()))?;
    Ok(NewKey {
        name: args.name,
        scopes: args.scopes.into_iter().collect(),
        limits: Limits {
            rate,
            max_jobs: args.max_jobs,
            max_running: args.max_running,
            weight: args.weight,
        },
    })
}

/// Prints only the key on standard output, for scripts.
fn print_once(made: &CreatedKey) {
    println!("{}", made.credentials);
    eprintln!("allows {}; it is shown only once", scopes(&made.key));
}

fn print_all(keys: &[ApiKey]) {
    match keys {
        [] => println!(
            "no keys (those in a router's settings are not listed): create the first one with warmq keys create root --scope admin"
        ),
        keys => println!("{}", table(keys)),
    }
}

fn table(keys: &[ApiKey]) -> Table {
    let head = [
        "ID", "SCOPES", "RATE", "JOBS", "RUNNING", "WEIGHT", "CREATED",
    ];
    let mut table = Table::new(head).right([3, 4, 5]);
    for key in keys {
        let Limits { rate, max_jobs, .. } = key.limits;
        let max_running = key.limits.max_running();
        let unbounded = || "-".to_owned();
        table.row([
            key.id.to_string(),
            scopes(key),
            rate.map_or_else(unbounded, |rate| rate.to_string()),
            max_jobs.map_or_else(unbounded, |jobs| jobs.to_string()),
            max_running.map_or_else(unbounded, |jobs| jobs.to_string()),
            key.limits.weight().to_string(),
            time::utc(key.created_ms),
        ]);
    }
    table
}

fn scopes(key: &ApiKey) -> String {
    let scopes: Vec<String> = key.scopes.iter().map(ToString::to_string).collect();
    scopes.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use warmq_types::access::{MaxRunning, Weight};

    fn limits() -> Limits {
        Limits {
            rate: Some(Rate::new(2.5, None).unwrap()),
            max_jobs: Some(40),
            max_running: Some(MaxRunning::new(3).unwrap()),
            weight: Some(Weight::new(0.5).unwrap()),
        }
    }

    #[test]
    fn a_key_is_one_line_with_its_scopes_and_limits() {
        let mut key = ApiKey {
            id: "shop-1".parse().unwrap(),
            scopes: ["read".parse().unwrap(), "submit:warmq/*".parse().unwrap()].into(),
            limits: limits(),
            created_ms: 1_795_321_085_000,
        };
        let line = |key: &ApiKey| {
            let text = table(std::slice::from_ref(key)).to_string();
            let cells = text.lines().nth(1).unwrap().split("  ").map(str::trim);
            let cells: Vec<&str> = cells.filter(|cell| !cell.is_empty()).collect();
            cells.join("|")
        };
        let expected =
            "shop-1|submit:warmq/*,read|2.5/s, 3 at once|40|3|0.5|2026-11-22 04:18:05 UTC";
        assert_eq!(line(&key), expected);
        key.limits = Limits::default();
        let expected = "shop-1|submit:warmq/*,read|-|-|-|1|2026-11-22 04:18:05 UTC";
        assert_eq!(line(&key), expected);
    }
}
