//! `warmq runners`

use warmq_config::ByteSize;
use warmq_types::ids::AppId;
use warmq_types::runner::RunnerRecord;
use warmq_types::table::Table;
use warmq_types::text::escape;

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

fn table(runners: &[RunnerRecord], now_ms: u64) -> Table {
    let header = ["RUNNER", "APP", "DEVICE", "DOING", "LOADED", "MEMORY", "UP"];
    let mut table = Table::new(header);
    for runner in runners {
        let doing = match (&runner.fault, &runner.job, runner.idle) {
            (Some(_), ..) => "faulty".to_owned(),
            (None, Some(job), _) => format!("job {job}"),
            (None, None, true) => "idle".to_owned(),
            (None, None, false) => "busy".to_owned(),
        };
        let hints: Vec<&str> = runner.hints.iter().map(|hint| hint.as_str()).collect();
        let loaded = match hints.is_empty() {
            true => "-".to_owned(),
            false => hints.join(", "),
        };
        let memory = match runner.memory_budget_bytes {
            0 => "-".to_owned(),
            budget => format!("{} of {}", ByteSize(runner.memory_bytes), ByteSize(budget)),
        };
        table.row([
            runner.id.to_string(),
            runner.app.to_string(),
            runner.device.clone(),
            doing,
            loaded,
            memory,
            time::duration(now_ms.saturating_sub(runner.since_ms)),
        ]);
    }
    table
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
    use warmq_types::ids::{Epoch, RunnerId};

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
            idle: true,
            job: None,
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
