//! The invariants of ARCHITECTURE.md and the tables of docs/failure-modes.md, checked against the
//! source.

use std::path::{Path, PathBuf};

/// The crates that users run, and the contract between them.
const PROGRAMS: [&str; 8] = [
    "common/src",
    "routes/src",
    "router/src",
    "worker/src",
    "cli/src",
    "fetch/src",
    "demo/src",
    "bench/src",
];

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

/// Fails for every file under `folder` that says one of `words`, unless `allowed` names the file.
fn never_says(folder: &str, words: &[&str], allowed: &[&str]) {
    for (name, code) in sources(folder, "rs") {
        if allowed.iter().any(|path| name.starts_with(path)) {
            continue;
        }
        let code: Vec<&str> = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        for word in words {
            let guilty = code.iter().find(|line| line.contains(word));
            assert_eq!(guilty, None, "{name} must not say '{word}'");
        }
    }
}

#[test]
fn decisions_are_pure() {
    let impure = [
        "tokio",
        "lapin",
        "redis",
        "Instant",
        "SystemTime",
        "rand::",
        "std::fs",
        "std::env",
    ];
    never_says("router/src/policy", &impure, &[]);
    never_says("routes/src", &impure, &[]);
    // The simulator draws from seeded generators only.
    let unseeded = [
        "tokio",
        "Instant",
        "SystemTime",
        "rand::rng",
        "rand::random",
    ];
    never_says("bench/src/simulator", &unseeded, &[]);
    never_says("bench/src/schemes", &unseeded, &[]);
    never_says("common/src/access", &impure, &[]);
    for file in [
        "common/src/state.rs",
        "router/src/flow/next.rs",
        "worker/src/model_cache/eviction.rs",
    ] {
        let (folder, _) = file.rsplit_once('/').unwrap();
        let (_, code) = sources(folder, "rs")
            .into_iter()
            .find(|(name, _)| name == file)
            .unwrap();
        for word in impure {
            assert!(!code.contains(word), "{file} must not say '{word}'");
        }
    }
}

#[test]
fn only_the_topology_declares_queues() {
    let declarations = ["queue_declare(", "exchange_declare(", "queue_bind("];
    for crate_folder in PROGRAMS {
        never_says(
            crate_folder,
            &declarations,
            &["common/src/amqp/topology.rs"],
        );
    }
}

#[test]
fn only_the_store_spells_redis() {
    for crate_folder in PROGRAMS {
        never_says(crate_folder, &["redis::"], &["common/src/store/"]);
    }
}

#[test]
fn one_place_finds_jobs_for_callers() {
    // Elsewhere, a job is one that was found there, or was submitted just now.
    never_says(
        "router/src/api",
        &["store.job("],
        &["router/src/api/own.rs"],
    );
    let reads = ["store.job_of("];
    let allowed = ["router/src/api/following.rs", "router/src/api/jobs.rs"];
    never_says("router/src/api", &reads, &allowed);
}

#[test]
fn servers_reach_out_by_the_guarded_client_alone() {
    for crate_folder in ["common/src", "router/src", "worker/src"] {
        never_says(crate_folder, &["reqwest::", "hyper_util::client"], &[]);
    }
}

#[test]
fn every_route_is_documented() {
    // What is routed by `routes!` alone stands in `/openapi.json`; `/docs` shows that.
    let undocumented = [
        ".route(",
        ".route_service(",
        ".nest_service(",
        ".fallback_service(",
    ];
    let others = ["router/src/api/docs.rs", "router/src/api/server/tests.rs"];
    never_says("router/src", &undocumented, &others);
}

#[test]
fn links_to_files_are_made_and_taken_back_in_one_place() {
    never_says(
        "router/src",
        &["REFERENCE_PREFIX", "warmq://"],
        &["router/src/files/"],
    );
}

#[test]
fn unmaintained_and_young_crates_are_named_in_one_module_each() {
    never_says(
        "routes/src",
        &["use cel::", " cel::"],
        &["routes/src/expression/"],
    );
    for crate_folder in ["common/src", "router/src", "worker/src", "cli/src"] {
        never_says(crate_folder, &["use cel::", " cel::"], &[]);
    }
    for crate_folder in [
        "common/src",
        "router/src",
        "worker/src",
        "cli/src",
        "diffusion/src",
    ] {
        never_says(crate_folder, &["backoff::"], &["common/src/retry.rs"]);
        never_says(
            crate_folder,
            &["use diffusers::", " diffusers::"],
            &["diffusion/src/diffusers_rs"],
        );
    }
}

#[test]
fn router_and_worker_never_depend_on_each_other_and_tensors_stay_in_their_crate() {
    let manifest = |name: &str| {
        let text = std::fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        text.split("[dev-dependencies]").next().unwrap().to_owned()
    };
    assert!(!manifest("router").contains("warmq-worker"));
    assert!(!manifest("worker").contains("warmq-router"));
    for name in ["common", "router", "cli", "cluster"] {
        let text = manifest(name);
        assert!(
            !text.contains("warmq-diffusion") && !text.contains("\ntch"),
            "{name}"
        );
    }
    assert!(!manifest("worker").contains("\ntch"));
    assert!(
        !manifest("diffusion").contains("warmq-common"),
        "tensors know no queue"
    );
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

/// Checks the table under a heading of a document: its last column names tests in these folders.
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
    // The first one is the head.
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
fn every_script_says_what_it_takes_and_gives() {
    for (name, code) in sources("common/src/store/lua", "lua") {
        if name.ends_with("prelude.lua") {
            continue;
        }
        assert!(code.contains("-- KEYS 1"), "{name} names its keys");
        assert!(code.contains("-- ARGV 1"), "{name} names its arguments");
    }
}
