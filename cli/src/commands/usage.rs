//! `warmq usage`

use warmq_types::table::Table;
use warmq_types::usage::{UsageGroup, UsageLine, UsageReport, UsageTotals};

use crate::args::UsageArgs;
use crate::client::{Client, UsageQuery, pretty};
use crate::exit;

/// Prints what ended jobs used.
pub(super) async fn run(client: &Client, args: UsageArgs, json: bool) -> anyhow::Result<u8> {
    let query = UsageQuery {
        from: args.from,
        to: args.to,
        app: args.app,
        owner: args.owner,
        by: args.by,
    };
    let report = client.usage(&query).await?;
    if json {
        println!("{}", pretty(&report));
    } else if report.usage.is_empty() {
        println!("no jobs ended from {} to {}", report.from, report.to);
    } else {
        println!("{}", table(&report));
    }
    Ok(exit::OK)
}

/// One row per line of the report, and one of their sums. Times in seconds, as for a bill.
fn table(report: &UsageReport) -> Table {
    let groups = report.by.iter().map(|group| match group {
        UsageGroup::Day => "DAY",
        UsageGroup::Key => "KEY",
        UsageGroup::App => "APP",
    });
    let sums = [
        "SUCCEEDED",
        "FAILED",
        "CANCELLED",
        "EXPIRED",
        "PICTURES",
        "GPU SECONDS",
        "LOADING",
    ];
    let first = report.by.len();
    let mut table = Table::new(groups.chain(sums)).right(first..first + sums.len());
    for line in &report.usage {
        let names = report.by.iter().map(|group| name(line, *group));
        table.row(names.chain(numbers(&line.totals)));
    }
    let names = (0..first).map(|column| match column {
        0 => "total".to_owned(),
        _ => String::new(),
    });
    table.row(names.chain(numbers(&report.total)));
    table
}

fn name(line: &UsageLine, group: UsageGroup) -> String {
    let name = match group {
        UsageGroup::Day => line.day.map(|day| day.to_string()),
        UsageGroup::Key => line.key.clone(),
        UsageGroup::App => line.app.as_ref().map(ToString::to_string),
    };
    name.filter(|name| !name.is_empty())
        .unwrap_or_else(|| "-".to_owned())
}

fn numbers(totals: &UsageTotals) -> [String; 7] {
    let seconds = |ms: u64| format!("{}.{:03}", ms / 1000, ms % 1000);
    [
        totals.succeeded.to_string(),
        totals.failed.to_string(),
        totals.cancelled.to_string(),
        totals.expired.to_string(),
        totals.pictures.to_string(),
        seconds(totals.gpu_ms),
        seconds(totals.load_ms),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_has_a_row_per_line_and_one_of_the_sums() {
        let totals = json!({"succeeded": 2, "failed": 1, "cancelled": 0, "expired": 0,
            "pictures": 4, "gpu_ms": 61_005, "load_ms": 900});
        let mut line = totals.clone();
        line["day"] = json!("2026-11-30");
        line["key"] = json!("");
        let report = json!({"from": "2026-11-01", "to": "2026-11-30", "by": ["day", "key"],
            "usage": [line], "total": totals});
        let table = table(&serde_json::from_value(report).unwrap()).to_string();
        let rows: Vec<Vec<&str>> = (table.lines())
            .map(|row| row.split_whitespace().collect())
            .collect();
        assert_eq!(rows[0][..3], ["DAY", "KEY", "SUCCEEDED"]);
        let numbers = ["2", "1", "0", "0", "4", "61.005", "0.900"];
        assert_eq!(rows[1][..2], ["2026-11-30", "-"]);
        assert_eq!(rows[1][2..], numbers);
        assert_eq!((rows[2][0], &rows[2][1..]), ("total", &numbers[..]));
    }
}
