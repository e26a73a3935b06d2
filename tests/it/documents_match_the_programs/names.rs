//! Flags, variables, settings, queues and metrics: the documents list all of them and no others.

use std::collections::BTreeSet;

use warmq_broker::Topology;
use warmq_tests::Program;
use warmq_types::ids::Epoch;
use warmq_types::job::Priority;
use warmq_types::owner_lane::OwnerLane;
use warmq_types::queue_type::QueueType;
use warmq_types::retry_tier::RetryTier;

use super::{document, root};

/// Variables that are no flag's.
const OTHER_VARIABLES: [&str; 6] = [
    "WARMQ_DRAINING",
    "WARMQ_LOG",
    "WARMQ_LOG_FORMAT",
    "WARMQ_RUNNERS",
    "WARMQ_WANTED",
    "WARMQ_WORKER_KEY",
];

/// Flags without a line in `warmq.toml`: the file itself, and a secret.
const NOT_IN_THE_FILE: [&str; 2] = ["config", "admin-key"];

/// A flag of `--help`, without its dashes, and its variable.
#[derive(Debug)]
struct Flag {
    name: String,
    variable: Option<String>,
}

/// Returns the flags of a program, and of all of its subcommands.
async fn flags(program: &str) -> Vec<Flag> {
    let mut flags = Vec::new();
    let mut commands: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(command) = commands.pop() {
        let args: Vec<&str> = command
            .iter()
            .map(String::as_str)
            .chain(["--help"])
            .collect();
        let help = Program::new(program, &args).run().await.out;
        flags.extend(help.lines().filter_map(flag));
        commands.extend(subcommands(&help).map(|name| [&command[..], &[name]].concat()));
    }
    flags.retain(|flag| !["help", "version"].contains(&flag.name.as_str()));
    assert!(flags.len() > 5, "{program}: {flags:?}");
    flags
}

/// Returns the settings of routers and workers: the flags without those of commands.
async fn process_flags() -> Vec<Flag> {
    let mut all = Vec::new();
    for program in ["warmq-router", "warmq-worker"] {
        let help = Program::new(program, &["--help"]).run().await.out;
        all.extend(help.lines().filter_map(flag));
    }
    all.retain(|flag| !["help", "version"].contains(&flag.name.as_str()));
    all
}

/// Reads `      --name <VALUE>  What it means [env: VARIABLE=value]`.
fn flag(line: &str) -> Option<Flag> {
    let line = line.trim_start();
    let line = match line.split_once(", ") {
        Some((short, rest)) if short.len() == 2 && short.starts_with('-') => rest,
        _ => line,
    };
    let name = line.strip_prefix("--")?.split_whitespace().next()?;
    let variable = line.split_once("[env: ").map(|(_, rest)| {
        let end = rest.find(['=', ']']).unwrap();
        rest[..end].to_owned()
    });
    Some(Flag {
        name: name.to_owned(),
        variable,
    })
}

/// Returns the names below `Commands:`.
fn subcommands(help: &str) -> impl Iterator<Item = String> {
    let (_, below) = help.split_once("Commands:\n").unwrap_or_default();
    let listed = below.lines().take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned)
}

/// Returns what follows each `start` in `text`, as far as `is_part` goes.
fn all<'a>(text: &'a str, start: &str, is_part: impl Fn(char) -> bool) -> BTreeSet<&'a str> {
    let found = text.match_indices(start).map(|(at, _)| {
        let rest = &text[at + start.len()..];
        &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())]
    });
    found.filter(|name| !name.is_empty()).collect()
}

#[tokio::test]
async fn configuration_lists_every_flag_and_no_other() {
    let text = document("docs/configuration.md");
    let processes = process_flags().await;
    let mut commands = flags("warmq").await;
    commands.extend(flags("warmq-worker").await);
    let mut known: BTreeSet<&str> = BTreeSet::from(["help"]);
    for flag in processes.iter().chain(&commands) {
        let is_listed = text.contains(&format!("`--{}`", flag.name))
            || text.contains(&format!("`--{} ", flag.name));
        assert!(is_listed, "docs/configuration.md lacks --{}", flag.name);
        known.insert(&flag.name);
    }
    for name in all(&text, "`--", |c| c.is_ascii_lowercase() || c == '-') {
        assert!(known.contains(name), "no program has --{name}");
    }
}

#[tokio::test]
async fn each_flag_has_the_variable_and_the_setting_of_its_name() {
    let text = document("docs/configuration.md");
    let (_, file) = text.split_once("```toml\n").unwrap();
    let (file, _) = file.split_once("\n[apps.").unwrap();
    let settings = file.lines().filter_map(|line| line.split_once(" = "));
    let settings: BTreeSet<&str> = settings.map(|(key, _)| key).collect();
    let processes = process_flags().await;
    let mut keys = BTreeSet::new();
    for Flag { name, variable } in processes {
        let key = name.replace('-', "_");
        let expected = format!("WARMQ_{}", key.to_uppercase());
        assert_eq!(variable, Some(expected), "--{name}");
        if !NOT_IN_THE_FILE.contains(&name.as_str()) {
            keys.insert(key);
        }
    }
    assert_eq!(settings, keys.iter().map(String::as_str).collect());
}

#[tokio::test]
async fn every_variable_in_the_documents_is_read_by_a_program() {
    let mut variables: BTreeSet<String> = OTHER_VARIABLES.map(str::to_owned).into();
    for program in ["warmq-router", "warmq-worker", "warmq"] {
        let flags = flags(program).await;
        variables.extend(flags.into_iter().filter_map(|flag| flag.variable));
    }
    for (path, text) in super::documents() {
        for name in all(&text, "WARMQ_", |c| c.is_ascii_uppercase() || c == '_') {
            let name = format!("WARMQ_{name}");
            assert!(variables.contains(&name), "{path}: nothing reads {name}");
        }
    }
}

#[test]
fn amqp_lists_every_queue_and_exchange_and_no_other() {
    let text = document("docs/amqp.md");
    let (_, table) = text.split_once("## Topology\n").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let first_cells = rows.filter_map(|row| row.split('|').nth(1));
    let listed = first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));

    let topology = Topology::new("n".parse().unwrap(), QueueType::Classic);
    let app = "a/b".parse().unwrap();
    let mut names = vec![
        topology.jobs_exchange(),
        topology.dispatch_exchange(),
        topology.events_exchange(),
        topology.submissions_queue(),
        topology.lane_queue(&app, Priority::Normal),
        topology.lane_queue(&app, Priority::Low),
        topology.overflow_queue(&app, &OwnerLane::parse("low").unwrap()),
        topology.overflow_queue(&app, &OwnerLane::parse("low.k").unwrap()),
        topology.shared_queue(&app),
        topology.runner_queue(&"r".parse().unwrap(), Epoch(7)),
        topology.dead_queue(&app),
        topology.dead_submissions_queue(),
        topology.unroutable_queue(),
        topology.deferred_results_queue(),
        topology.reply_events_queue(),
        topology.webhook_events_queue(),
        topology.flow_events_queue(),
    ];
    names.extend(RetryTier::ALL.map(|tier| topology.retry_exchange(tier)));
    let names = names.into_iter().map(|name| {
        let name = name.strip_prefix("n.").unwrap();
        let name = name.replace("a/b", "<app>").replace("r.7", "<id>.<epoch>");
        match name.strip_prefix("overflow.<app>.low") {
            Some(owner) => format!("overflow.<app>.<lane>{}", owner.replace('k', "<key>")),
            None => name,
        }
    });
    let names: BTreeSet<String> = names.collect();
    assert_eq!(listed.map(str::to_owned).collect::<BTreeSet<_>>(), names);
}

#[test]
fn operations_lists_every_metric_and_no_other() {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let sources = ["router", "worker"].map(|program| {
        let path = root().join(program).join("src/metrics/names.rs");
        std::fs::read_to_string(path).unwrap()
    });
    let sources = sources.concat();
    let metrics = all(&sources, "\"warmq_", is_part);
    let text = document("docs/operations.md");
    assert_eq!(all(&text, "`warmq_", is_part), metrics);

    // Rules may use parts of a histogram, and label the results of others with a level before.
    let rules = document("deploy/monitoring/warmq.rules.yml");
    let used = all(&rules, "(warmq_", is_part);
    assert!(used.len() > 5, "{used:?}");
    for name in used {
        assert!(metrics.contains(&name), "no metric is warmq_{name}");
    }
}
