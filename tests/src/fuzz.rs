//! Fuzzes the API against its documentation: schemathesis reads `/openapi.json`, generates valid
//! and invalid requests, and checks each response: no 5xx, and status, content type, headers and
//! body as documented.
//!
//! The system has a router and two workers of the `timed` app. Jobs are short, so that only hung
//! ones wait for long: `fuzz/short_jobs.py` bounds the inputs, and the app's `run_timeout` the
//! rest.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use tokio::process::Command;
use warmq_testkit::WorkerOptions;

use crate::System;
use crate::system::TIMED;

/// Routes of two kinds: a switch and a sequence.
const ROUTES: &str = r#"
    [routes."bench/first"]
    kind = "switch"
    rules = [{ when = "input.run_ms > 1", to = "bench/timed" }]
    default = "bench/twice"

    [routes."bench/twice"]
    kind = "sequence"
    steps = [
      { name = "one", app = "bench/timed" },
      { name = "two", app = "bench/timed", timeout = 2, input = { output = "steps.one.output", run_ms = 1, load_ms = 0 } },
    ]
"#;

/// Runners of each of the two workers.
const RUNNERS: u32 = 8;

/// The fuzzer creates keys, and without one of its own would be locked out.
const ADMIN_KEY: &str = "fuzz:0123456789abcdef0123456789abcdef";

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub struct Fuzz {
    /// Random requests per operation, and sequences of calls; boundary values of each parameter
    /// come on top.
    pub examples: u32,
    /// Seed of the generators.
    pub seed: u64,
    /// Timeout of the run.
    pub bound: Duration,
}

/// The result of schemathesis.
#[derive(Debug)]
pub struct Report {
    /// Whether every response was as documented.
    pub holds: bool,
    /// Number of generated requests.
    pub cases: u64,
    /// The output of schemathesis.
    pub text: String,
}

impl Fuzz {
    /// Starts a system and fuzzes its API.
    ///
    /// # Errors
    /// schemathesis is not installed, could not be understood, or took too long.
    pub async fn run(&self) -> anyhow::Result<Report> {
        let schemathesis = installed()?;
        let settings = format!(
            "admin_key = '{ADMIN_KEY}'\n[apps.'bench/timed']\nrun_timeout = '2s'\nmax_attempts = 1\n{ROUTES}"
        );
        let system = System::with_config(&settings).await;
        let worker = |name| {
            system.worker(WorkerOptions {
                concurrency: RUNNERS,
                ..WorkerOptions::timed(name, TIMED)
            })
        };
        let _workers = [worker("a").await, worker("b").await];
        // Its output and files are deleted with the testbed.
        let output = system.testbed.folder().join("schemathesis.log");
        let log = File::create(&output)?;
        let status = self
            .command(&schemathesis, system.router.url())
            .current_dir(system.testbed.folder())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .status();
        let ended = tokio::time::timeout(self.bound, status).await;
        let text = String::from_utf8_lossy(&std::fs::read(&output)?).into_owned();
        let report = match ended {
            Ok(status) => report(status?.success(), text),
            Err(_) => Err(anyhow!(
                "schemathesis took longer than {:?}:\n{text}",
                self.bound
            )),
        };
        system.cleanup().await;
        report
    }

    fn command(&self, schemathesis: &Path, router: &str) -> Command {
        let folder = folder();
        let mut command = Command::new(schemathesis);
        command
            .arg("--no-color")
            .arg("--config-file")
            .arg(folder.join("schemathesis.toml"))
            .args(["run", &format!("{router}/openapi.json")])
            .args(["--header", &format!("Authorization: Key {ADMIN_KEY}")])
            .args(["--max-examples", &self.examples.to_string()])
            .args(["--seed", &self.seed.to_string()])
            .env("SCHEMATHESIS_HOOKS", folder.join("short_jobs.py"))
            // Wide enough that the lines which are parsed below are not wrapped.
            .env("COLUMNS", "160");
        command
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn installed() -> anyhow::Result<PathBuf> {
    let path = folder().join("../../.venv/bin/schemathesis");
    let missing = "`make setup-test` installs schemathesis";
    ensure!(path.exists(), "{} is missing: {missing}", path.display());
    Ok(path)
}

fn report(holds: bool, text: String) -> anyhow::Result<Report> {
    let Some(cases) = cases(&text) else {
        bail!("schemathesis printed no summary:\n{text}");
    };
    Ok(Report { holds, cases, text })
}

/// Returns the number in schemathesis' summary: `1234 generated, …`.
fn cases(text: &str) -> Option<u64> {
    let lines = text.lines().map(str::trim);
    let mut counts = lines.filter_map(|line| line.split_once(" generated")?.0.parse().ok());
    counts.next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_the_number_of_cases() {
        let text = "Test cases:\n  1234 generated, 1230 passed\n\nSeed: 7";
        assert_eq!(cases(text), Some(1234));
        assert_eq!(cases("No test cases were generated"), None);
    }
}
