//! The invariants of ARCHITECTURE.md and the tables of docs/failure-modes.md, checked against the
//! source.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The sources of all crates but those of the tests.
const SOURCES: [&str; 17] = [
    "common/broker/src",
    "common/config/src",
    "common/explain/src",
    "common/fetch/src",
    "common/metrics/src",
    "common/objects/src",
    "common/process/src",
    "common/store/src",
    "common/traces/src",
    "common/types/src",
    "router/src",
    "router/policy/src",
    "router/rules/src",
    "worker/src",
    "cli/src",
    "dev/bench/src",
    "dev/demo/src",
];

/// The bare transport of the benchmark, which store and broker are compared with.
const BARE_TRANSPORT: &str = "dev/bench/src/peers/bare/";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file under `folder` with this extension, as (path from the root, text without its tests).
fn sources(folder: &str, extension: &str) -> Vec<(String, String)> {
    let code = |text: String| {
        text.split("#[cfg(test)]")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let files = files(folder, extension).into_iter();
    files.map(|(name, text)| (name, code(text))).collect()
}

/// Every file under `folder` with this extension, as (path from the root, text).
fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|end| end == extension) {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    let (root, mut found) = (root(), Vec::new());
    walk(&root.join(folder), extension, &mut paths);
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        found.push((name, text));
    }
    assert!(!found.is_empty(), "no sources under {folder}");
    found
}

/// Returns whether `line` contains `word`, not as the end of a longer name.
fn contains_word(line: &str, word: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let continues = word.starts_with(in_name) && line[..at].ends_with(in_name);
        !continues
    })
}

/// Fails for every file under `folder` that contains one of `words`, unless `allowed` lists the
/// file. Fails, too, if an allowed part of `folder` contains none of them: the words are then no
/// longer those of the code, and the check would pass whatever is written.
fn assert_absent(folder: &str, words: &[&str], allowed: &[&str]) {
    let mut unused: Vec<&str> = allowed.to_vec();
    unused.retain(|path| path.starts_with(folder));
    for (name, code) in sources(folder, "rs") {
        let mut code = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let guilty = code.find_map(|line| {
            let word = words.iter().find(|word| contains_word(line, word));
            word.map(|word| (*word, line))
        });
        match guilty {
            Some(_) if allowed.iter().any(|path| name.starts_with(path)) => {
                unused.retain(|path| !name.starts_with(path));
            }
            guilty => assert_eq!(guilty, None, "{name} must not contain this word"),
        }
    }
    assert!(
        unused.is_empty(),
        "none of {words:?} is in {unused:?}: which words replaced them?"
    );
}

/// Returns the crates that `name` depends on, directly or through crates of this workspace; without
/// dev-dependencies.
fn dependencies(name: &str) -> BTreeSet<String> {
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, members) = workspace.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let manifests: Vec<String> = members
        .split('"')
        .skip(1)
        .step_by(2)
        .map(|member| root().join(member).join("Cargo.toml"))
        .map(|manifest| std::fs::read_to_string(manifest).unwrap())
        .collect();
    let mut found = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        let head = format!("[package]\nname = \"{name}\"\n");
        let Some(manifest) = manifests.iter().find(|text| text.starts_with(&head)) else {
            continue;
        };
        let (_, table) = manifest.split_once("\n[dependencies]\n").unwrap();
        let table = table.split("\n[").next().unwrap();
        for line in table.lines() {
            let end = line.find(['.', ' ']).unwrap_or(0);
            if end > 0 && found.insert(line[..end].to_owned()) {
                open.push(line[..end].to_owned());
            }
        }
    }
    assert!(!found.is_empty(), "no crate '{name}'");
    found
}

#[test]
fn boundaries_between_crates_hold() {
    let io = [
        "lapin",
        "redis",
        "tokio",
        "reqwest",
        "hyper",
        "object_store",
    ];
    let servers = ["lapin", "redis"];
    let tensors = ["tch", "diffusers", "warmq-diffusion"];
    for (name, excluded) in [
        ("warmq-types", &io[..]),
        ("warmq-config", &io),
        ("warmq-explain", &io),
        ("warmq-policy", &io),
        ("warmq-rules", &io),
        ("warmq-cli", &servers),
        ("warmq-cli", &tensors),
        ("warmq-router", &tensors),
        ("warmq-router", &["warmq-worker"]),
        (
            "warmq-worker",
            &["warmq-router", "warmq-policy", "warmq-rules"],
        ),
        ("warmq-diffusion", &["warmq-types", "lapin", "redis"]),
    ] {
        let dependencies = dependencies(name);
        for excluded in excluded {
            let depends = dependencies.contains(*excluded);
            assert!(!depends, "{name} must not depend on {excluded}");
        }
    }
}

#[test]
fn decisions_read_no_clock_and_draw_no_chance() {
    let impure = ["Instant", "SystemTime", "rand::", "std::fs", "std::env"];
    assert_absent("router/policy/src", &impure, &[]);
    assert_absent("router/rules/src", &impure, &[]);
    assert_absent("common/types/src", &impure, &[]);
    assert_absent("common/explain/src", &impure, &[]);
    // The simulator draws from seeded generators only.
    let unseeded = [
        "tokio",
        "Instant",
        "SystemTime",
        "rand::rng",
        "rand::random",
    ];
    assert_absent("dev/bench/src/simulator", &unseeded, &[]);
    assert_absent("dev/bench/src/schemes", &unseeded, &[]);
    for file in [
        "router/src/flow/decide.rs",
        "worker/src/model_cache/eviction.rs",
    ] {
        let (folder, _) = file.rsplit_once('/').unwrap();
        let mut code = sources(folder, "rs").into_iter();
        let (_, code) = code.find(|(name, _)| name == file).unwrap();
        for word in impure.into_iter().chain(["tokio", "lapin", "redis"]) {
            assert!(!code.contains(word), "{file} must not contain '{word}'");
        }
    }
}

#[test]
fn only_the_topology_declares_queues() {
    let declarations = ["queue_declare(", "exchange_declare(", "queue_bind("];
    for sources in SOURCES {
        assert_absent(
            sources,
            &declarations,
            &["common/broker/src/topology/mod.rs", BARE_TRANSPORT],
        );
    }
}

#[test]
fn every_ack_has_a_timeout() {
    for sources in SOURCES {
        let allowed = ["common/broker/src/acknowledgement.rs", BARE_TRANSPORT];
        assert_absent(sources, &["BasicAckOptions", "BasicNackOptions"], &allowed);
    }
}

#[test]
fn only_the_store_names_redis() {
    for sources in SOURCES {
        assert_absent(sources, &["redis::"], &["common/store/", BARE_TRANSPORT]);
    }
}

#[test]
fn one_module_finds_jobs_for_callers() {
    // From an id alone.
    let lookups = [".job_app(", ".job("];
    assert_absent("router/src/api", &lookups, &["router/src/api/owned_job.rs"]);
    // From an app and an id: elsewhere, a job was found there or has just been submitted.
    let reads = [".head_of(", ".job_of(", ".outcome_of("];
    let allowed = [
        "router/src/api/owned_job.rs",
        "router/src/api/explanation.rs",
        "router/src/api/job.rs",
        "router/src/api/job_stream.rs",
    ];
    assert_absent("router/src/api", &reads, &allowed);
}

#[test]
fn outgoing_requests_use_the_guarded_client() {
    // The command line calls routers, dev/ starts them, and a worker calls its own model server.
    for sources in SOURCES {
        let model_server = "worker/src/engine/http/client.rs";
        let allowed = ["common/fetch/", "cli/", "dev/", model_server];
        assert_absent(sources, &["reqwest::", "hyper_util::client"], &allowed);
    }
}

#[test]
fn every_route_is_documented() {
    // Only routes of `routes!` appear in `/openapi.json`, which `/docs` shows.
    let undocumented = [
        ".route(",
        ".route_service(",
        ".nest_service(",
        ".fallback_service(",
    ];
    let others = [
        "router/src/api/docs.rs",
        "router/src/api/dashboard.rs",
        "router/src/api/server/tests.rs",
    ];
    assert_absent("router/src", &undocumented, &others);
}

#[test]
fn signed_urls_are_converted_in_one_module() {
    assert_absent(
        "router/src",
        &["REFERENCE_PREFIX", "warmq://"],
        &["router/src/files/"],
    );
}

#[test]
fn unmaintained_and_young_crates_are_named_in_one_module_each() {
    for sources in SOURCES.into_iter().chain(["worker/diffusion/src"]) {
        for (words, module) in [
            (["use cel::", " cel::"], "router/rules/src/expression/"),
            (
                ["use backoff::", " backoff::"],
                "common/process/src/retry.rs",
            ),
            (
                ["use diffusers::", " diffusers::"],
                "worker/diffusion/src/diffusers_rs/",
            ),
        ] {
            assert_absent(sources, &words, &[module]);
        }
    }
}

#[test]
fn each_row_of_the_failure_table_names_its_tests() {
    let folders = ["tests/it", "worker/tests/it"];
    rows_name_their_tests("docs/failure-modes.md", "## Failures", &folders);
}

#[test]
fn each_row_about_hostile_clients_names_its_tests() {
    let folders = ["tests/it", "common", "router"];
    rows_name_their_tests("docs/failure-modes.md", "## Hostile clients", &folders);
}

#[test]
fn each_invariant_of_the_table_names_its_test() {
    let folders = ["tests/it", "common", "worker"];
    rows_name_their_tests("ARCHITECTURE.md", "## Invariants", &folders);
}

/// Checks that the last column of the table below a heading names existing tests in `folders`.
fn rows_name_their_tests(document: &str, heading: &str, folders: &[&str]) {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let (_, below) = text.split_once(&format!("\n{heading}\n")).unwrap();
    let table = below.split("\n## ").next().unwrap();
    let tests: String = folders
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .map(|(_, code)| code)
        .collect();
    let rows: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .collect();
    // The first row is the head.
    for row in &rows[1..] {
        if row.starts_with("| ---") {
            continue;
        }
        let named = row.rsplit('|').nth(1).unwrap();
        let names: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test: {row}");
        for name in names {
            let function = format!("fn {name}()");
            assert!(tests.contains(&function), "there is no test '{name}'");
        }
    }
}

#[test]
fn every_script_documents_its_keys_and_arguments() {
    for (name, code) in sources("common/store/src/lua", "lua") {
        if name.ends_with("prelude.lua") {
            continue;
        }
        assert!(code.contains("-- KEYS 1"), "{name} names its keys");
        assert!(code.contains("-- ARGV 1"), "{name} names its arguments");
    }
}
