//! `warmq runners`

use warmq_config::ByteSize;
use warmq_types::ids::{AppId, RunnerId};
use warmq_types::runner::{ModelChange, RunnerRecord};
use warmq_types::table::Table;
use warmq_types::text::escape;

use crate::args::{ModelsOfRunner, RunnerChange};
use crate::client::{Client, pretty};
use crate::exit;
use crate::time;

/// Lists the live runners.
pub(super) async fn run(client: &Client, app: Option<&AppId>, json: bool) -> anyhow::Result<u8> {
    let runners = client.runners(app).await?;
    if json {
        println!("{}", pretty(&runners));
    } else if runners.is_empty() {
        println!("no runners: start one with `warmq-worker --app owner/name`, or `make up`");
    } else {
        println!("{}", table(&runners, time::now_ms()));
        for line in faults(&runners, time::now_ms()) {
            println!("{line}");
        }
    }
    Ok(exit::OK)
}

/// Changes the models of a runner, or drains it.
pub(super) async fn change(
    client: &Client,
    app: Option<&AppId>,
    change: RunnerChange,
    json: bool,
) -> anyhow::Result<u8> {
    let none = ModelChange::default();
    let (runner, change) = match change {
        RunnerChange::Drain { runner } => return drain(client, app, &runner, json).await,
        RunnerChange::Load(ModelsOfRunner { runner, models }) => (
            runner,
            ModelChange {
                load: models,
                ..none
            },
        ),
        RunnerChange::Unload(ModelsOfRunner { runner, models }) => (
            runner,
            ModelChange {
                unload: models,
                ..none
            },
        ),
        RunnerChange::Pin(ModelsOfRunner { runner, models }) => (
            runner,
            ModelChange {
                pin: models,
                ..none
            },
        ),
        RunnerChange::Unpin(ModelsOfRunner { runner, models }) => (
            runner,
            ModelChange {
                unpin: models,
                ..none
            },
        ),
    };
    let queued = client.change_models(app, &runner, &change).await?;
    match json {
        true => println!("{}", pretty(&queued)),
        false => println!("{runner} changes its models once it is idle; see `warmq runners`"),
    }
    Ok(exit::OK)
}

async fn drain(
    client: &Client,
    app: Option<&AppId>,
    runner: &RunnerId,
    json: bool,
) -> anyhow::Result<u8> {
    let record = client.drain_runner(app, runner).await?;
    match (json, record.job) {
        (true, _) => println!("{}", pretty(&record)),
        (false, Some(job)) => println!("{runner} leaves after job {job}; see `warmq runners`"),
        (false, None) => println!("{runner} leaves within 5 s; see `warmq runners`"),
    }
    Ok(exit::OK)
}

/// Describes what a runner does.
fn doing(runner: &RunnerRecord) -> String {
    let job = runner.job.map(|job| format!("job {job}"));
    match (&runner.fault, job) {
        (_, Some(job)) if runner.draining => format!("draining, {job}"),
        (_, None) if runner.draining => "draining".to_owned(),
        (Some(_), _) => "faulty".to_owned(),
        (None, Some(job)) => job,
        (None, None) if runner.idle => "idle".to_owned(),
        (None, None) => "busy".to_owned(),
    }
}

fn table(runners: &[RunnerRecord], now_ms: u64) -> Table {
    let header = ["RUNNER", "APP", "DEVICE", "DOING", "LOADED", "MEMORY", "UP"];
    let mut table = Table::new(header);
    for runner in runners {
        let mut memory = match runner.memory_budget_bytes {
            0 => "-".to_owned(),
            budget => format!("{} of {}", ByteSize(runner.memory_bytes), ByteSize(budget)),
        };
        if runner.ram_budget_bytes > 0 {
            let (used, budget) = (
                ByteSize(runner.ram_bytes),
                ByteSize(runner.ram_budget_bytes),
            );
            memory += &format!(", RAM {used} of {budget}");
        }
        table.row([
            runner.id.to_string(),
            runner.app.to_string(),
            runner.device.clone(),
            doing(runner),
            loaded(runner),
            memory,
            time::duration(now_ms.saturating_sub(runner.since_ms)),
        ]);
    }
    table
}

/// Lists the models of a runner: on the device, with pins, then in RAM.
fn loaded(runner: &RunnerRecord) -> String {
    let on_device = runner
        .hints
        .iter()
        .map(|hint| match runner.pinned.contains(hint) {
            true => format!("{hint} (pinned)"),
            false => hint.to_string(),
        });
    let in_ram = runner.ram_hints.iter().map(|hint| format!("{hint} (RAM)"));
    let models: Vec<String> = on_device.chain(in_ram).collect();
    match models.is_empty() {
        true => "-".to_owned(),
        false => models.join(", "),
    }
}

/// Formats the faults of the faulty runners and their duration, one line each.
fn faults(runners: &[RunnerRecord], now_ms: u64) -> impl Iterator<Item = String> {
    runners.iter().filter_map(move |runner| {
        let fault = escape(runner.fault.as_deref()?);
        let since_ms = runner.fault_since_ms.unwrap_or(runner.since_ms);
        let faulty_for = time::duration(now_ms.saturating_sub(since_ms));
        Some(format!("{}: faulty for {faulty_for}: {fault}", runner.id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use warmq_types::hint::Hint;
    use warmq_types::ids::Epoch;

    #[test]
    fn a_runner_is_one_line() {
        let runner = RunnerRecord {
            id: RunnerId::parse("gpu-a").unwrap(),
            app: AppId::parse("warmq/diffusion").unwrap(),
            epoch: Epoch(1),
            host: "h".to_owned(),
            pid: 1,
            engine: "diffusion".to_owned(),
            device: "cpu".to_owned(),
            memory_budget_bytes: 64 << 20,
            memory_bytes: 24 << 20,
            hints: vec![
                Hint::parse("shapes").unwrap(),
                Hint::parse("digits").unwrap(),
            ],
            slots: 5,
            ram_budget_bytes: 0,
            ram_bytes: 0,
            ram_hints: Vec::new(),
            pinned: Vec::new(),
            idle: true,
            job: None,
            draining: false,
            since_ms: 1_000,
            lease_until_ms: 0,
            fault: None,
            fault_since_ms: None,
        };
        assert_eq!(faults(std::slice::from_ref(&runner), 61_000).count(), 0);
        let text = table(std::slice::from_ref(&runner), 61_000).to_string();
        let expected =
            "gpu-a   warmq/diffusion  cpu     idle   shapes, digits  24.0 MiB of 64.0 MiB  1 min";
        assert_eq!(text.lines().nth(1), Some(expected));

        let with_ram = [RunnerRecord {
            ram_budget_bytes: 32 << 20,
            ram_bytes: 12 << 20,
            ram_hints: vec![Hint::parse("landscapes").unwrap()],
            pinned: vec![Hint::parse("digits").unwrap()],
            ..runner.clone()
        }];
        let text = table(&with_ram, 61_000).to_string();
        let models = "shapes, digits (pinned), landscapes (RAM)";
        let memory = "24.0 MiB of 64.0 MiB, RAM 12.0 MiB of 32.0 MiB";
        assert!(text.contains(&format!("{models}  {memory}")), "{text}");

        let job = warmq_types::ids::JobId::generate();
        for (job, expected) in [
            (None, "draining".to_owned()),
            (Some(job), format!("draining, job {job}")),
        ] {
            let draining = RunnerRecord {
                idle: false,
                draining: true,
                job,
                ..runner.clone()
            };
            assert_eq!(doing(&draining), expected);
        }

        let faulty = [RunnerRecord {
            idle: false,
            fault: Some("storage: no space left".to_owned()),
            fault_since_ms: Some(31_000),
            ..runner
        }];
        let text = table(&faulty, 61_000).to_string();
        assert!(text.contains("  faulty  "), "{text}");
        let lines: Vec<String> = faults(&faulty, 61_000).collect();
        assert_eq!(lines, ["gpu-a: faulty for 30.0 s: storage: no space left"]);
    }
}
