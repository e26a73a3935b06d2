//! `warmq keys`

use warmq_types::access::{ApiKey, Limits, NewKey, Rate};
use warmq_types::http::CreatedKey;
use warmq_types::ids::KeyId;
use warmq_types::table::Table;

use crate::args::{Change, Keys, LimitChanges, NewKeyArgs};
use crate::client::{Client, pretty};
use crate::exit::{self, Usage};
use crate::time;

/// Creates, lists, changes or revokes keys.
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
        Keys::Set { id, changes } => {
            let key = set(client, &id, changes).await?;
            match json {
                true => println!("{}", pretty(&key)),
                false => println!("{}", table(&[key])),
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
    let rate = rate(args.rate, args.burst)?;
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

fn rate(per_second: Option<f64>, burst: Option<u32>) -> Result<Option<Rate>, Usage> {
    let rate = per_second.map(|per_second| Rate::new(per_second, burst));
    rate.transpose().map_err(|error| Usage(error.to_string()))
}

/// Reads a key, changes some of its limits, and writes all of them.
async fn set(client: &Client, id: &KeyId, changes: LimitChanges) -> anyhow::Result<ApiKey> {
    let keys = client.keys().await?;
    let key = keys.into_iter().find(|key| key.id == *id);
    let key = key.ok_or_else(|| {
        Usage(format!(
            "key '{id}' does not exist, or is in a router's settings: \
             warmq keys list prints those that can be changed"
        ))
    })?;
    let limits = changed(key.limits, changes)?;
    Ok(client.set_limits(id, limits).await?)
}

fn changed(limits: Limits, changes: LimitChanges) -> Result<Limits, Usage> {
    let LimitChanges {
        rate: new_rate,
        burst,
        max_jobs,
        max_running,
        weight,
    } = changes;
    if matches!(new_rate, Some(Change(None))) && burst.is_some() {
        let reason = "--burst requires a rate, and --rate none removes it";
        return Err(Usage(reason.to_owned()));
    }
    Ok(Limits {
        rate: match new_rate {
            Some(Change(per_second)) => rate(per_second, burst)?,
            None => limits.rate,
        },
        max_jobs: max_jobs.map_or(limits.max_jobs, |Change(jobs)| jobs),
        max_running: max_running.map_or(limits.max_running, |Change(jobs)| jobs),
        weight: weight.map_or(limits.weight, |Change(weight)| weight),
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

    #[test]
    fn limits_that_are_not_mentioned_remain_and_none_removes_one() {
        let unchanged = || LimitChanges {
            rate: None,
            burst: None,
            max_jobs: None,
            max_running: None,
            weight: None,
        };
        assert_eq!(changed(limits(), unchanged()).unwrap(), limits());
        let changes = LimitChanges {
            rate: "4".parse().ok(),
            weight: "none".parse().ok(),
            ..unchanged()
        };
        let expected = Limits {
            rate: Some(Rate::new(4.0, None).unwrap()),
            weight: None,
            ..limits()
        };
        assert_eq!(changed(limits(), changes).unwrap(), expected);
        let contradiction = LimitChanges {
            rate: Some(Change(None)),
            burst: Some(3),
            ..unchanged()
        };
        let error = changed(limits(), contradiction).unwrap_err().to_string();
        assert!(error.contains("--rate none"), "{error}");
    }
}
