//! The alert rules and the dashboard of deploy/monitoring read metrics that routers serve.

use std::collections::BTreeSet;

use serde_json::Value;

/// Suffixes of a histogram's series.
const SERIES: [&str; 3] = ["_bucket", "_sum", "_count"];

fn read(path: &str) -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../").to_owned() + path).unwrap()
}

/// Returns the names in a text that begin with `prefix`.
fn names<'t>(text: &'t str, prefix: &'t str) -> impl Iterator<Item = &'t str> {
    text.match_indices(prefix).map(|(at, _)| {
        let name = &text[at..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let end = name.find(|c| !is_part(c)).unwrap_or(name.len());
        &name[..end]
    })
}

/// Returns the metrics that an expression reads, by the names of their families.
fn metrics(expression: &str) -> BTreeSet<&str> {
    let is_recorded = |name: &str| name.contains(':');
    names(expression, "warmq_")
        .filter(|name| !is_recorded(name))
        .map(|name| {
            let mut families = SERIES.iter().filter_map(|series| name.strip_suffix(series));
            families.next().unwrap_or(name)
        })
        .collect()
}

#[test]
fn the_dashboard_and_the_rules_read_documented_metrics() {
    let operations = read("docs/operations.md");
    let documented: BTreeSet<&str> = names(&operations, "warmq_").collect();
    let rules = read("deploy/monitoring/warmq.rules.yml");
    let recorded: BTreeSet<&str> = (rules.lines())
        .filter_map(|line| line.trim().strip_prefix("- record: "))
        .collect();
    let dashboard = read("deploy/monitoring/grafana/warmq.json");
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert_eq!(panels.len(), 12);
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<&str> = targets
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    for expression in expressions {
        for name in metrics(expression) {
            assert!(documented.contains(name), "{name} of {expression}");
        }
        for name in names(expression, "app:warmq_") {
            assert!(recorded.contains(name), "{name} of {expression}");
        }
    }
    let rule_lines = rules.lines().filter(|line| !line.trim().starts_with('#'));
    for line in rule_lines {
        for name in metrics(line) {
            assert!(documented.contains(name), "{name} of {line}");
        }
    }
}
