//! `warmq` lists jobs, prints their logs, shows the system live, and documents itself: completions
//! and man page.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use warmq_testkit::Proxy;
use warmq_tests::program::Output;
use warmq_tests::system::TIMED;
use warmq_tests::{Program, System};
use warmq_types::state::JobState;

/// Timeout of a program in a terminal, on a busy machine.
const BOUND: Duration = Duration::from_secs(90);

/// Returns from the alternate screen of a terminal.
const LEAVE_SCREEN: &str = "\u{1b}[?1049l";

/// Shows the cursor.
const SHOW_CURSOR: &str = "\u{1b}[?25h";

async fn warmq(system: &System, args: &[&str]) -> Output {
    let url = ["--url", system.router.url()];
    Program::new("warmq", &[&url, args].concat()).run().await
}

/// Runs `warmq` successfully; returns its output.
async fn printed(system: &System, args: &[&str]) -> String {
    let output = warmq(system, args).await;
    assert_eq!(output.code, Some(0), "{args:?}: {output:?}");
    output.out
}

#[tokio::test]
async fn jobs_are_a_table_or_json() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let done = system.submit("one", 1).await;
    system.succeeded(done).await;
    let input = json!({"run_ms": 1, "fail": "no luck"});
    let failed = system.submit_to(TIMED, "two", input).await;
    system.ended(failed).await;
    let table = printed(&system, &["jobs"]).await;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ID"), "{table}");
    assert!(lines[1].starts_with(&failed.to_string()), "{table}");
    assert!(lines[1].ends_with("no luck"), "{table}");
    assert!(
        lines[2].contains("succeeded") && lines.len() == 3,
        "{table}"
    );
    for (flag, value) in [
        ("--state", "failed,expired"),
        ("--hint", "two"),
        ("--limit", "1"),
    ] {
        let json = printed(&system, &["jobs", "--json", flag, value]).await;
        let jobs: Vec<Value> = serde_json::from_str(&json).unwrap();
        assert_eq!(jobs.len(), 1, "{flag}: {json}");
        assert_eq!(jobs[0]["id"], failed.to_string(), "{flag}");
    }
    let older = printed(&system, &["jobs", "--before", &failed.to_string()]).await;
    assert!(older.contains(&done.to_string()), "{older}");
    let more = warmq(&system, &["jobs", "-n", "1"]).await;
    assert!(more.err.contains(&format!("--before {failed}")), "{more:?}");
    assert_eq!(
        printed(&system, &["jobs", "--app", "no/where"]).await,
        "no jobs\n"
    );
    let wrong = warmq(&system, &["jobs", "--state", "done"]).await;
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.err.contains("'done'"), "{wrong:?}");
    system.cleanup().await;
}

#[tokio::test]
async fn a_log_is_followed_to_the_end_of_its_job() {
    let system = System::with_config(&format!("[apps.'{TIMED}']")).await;
    let job = system.submit("m", 300).await;
    let id = job.to_string();
    let worker = async {
        // The log is followed from before the first attempt.
        let held = async || system.job(job).await.hold;
        system.until("it is held", BOUND, held).await;
        system.timed_worker("a").await
    };
    let follow = ["logs", &id, "--follow"];
    let (followed, _worker) = tokio::join!(printed(&system, &follow), worker);
    assert_eq!(system.job(job).await.state, JobState::Succeeded);
    for part in [
        "INFO  held: ",
        "INFO  a: attempt 1 begins",
        "succeeded: cold",
    ] {
        assert!(followed.contains(part), "'{part}' is missing:\n{followed}");
    }
    assert_eq!(printed(&system, &["logs", &id]).await, followed);
    let lines = printed(&system, &["logs", &id, "-f", "--json"]).await;
    let lines: Vec<Value> = (lines.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let list = printed(&system, &["logs", &id, "--json"]).await;
    assert_eq!(serde_json::from_str::<Vec<Value>>(&list).unwrap(), lines);
    assert_eq!(lines.len(), followed.lines().count());
    system.cleanup().await;
}

#[tokio::test]
async fn a_log_is_followed_over_a_broken_connection() {
    let system = System::with_config(&format!("[apps.'{TIMED}']")).await;
    let _worker = system.timed_worker("a").await;
    let job = system.submit("m", 3_000).await;
    system.reached(job, JobState::Running).await;
    let proxy = Proxy::of(&system.router.url().parse().unwrap())
        .await
        .unwrap();
    let mut following = Command::new(built("warmq"))
        .args([
            "--url",
            proxy.url().expose(),
            "logs",
            &job.to_string(),
            "--follow",
        ])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut printed = vec![lines.next_line().await.unwrap().unwrap()];
    proxy.shut();
    proxy.reopen();
    while let Some(line) = lines.next_line().await.unwrap() {
        printed.push(line);
    }
    assert!(following.wait().await.unwrap().success());
    let begins = printed
        .iter()
        .filter(|line| line.contains("attempt 1 begins"));
    assert_eq!(begins.count(), 1, "each line is printed once: {printed:?}");
    assert!(printed.last().unwrap().contains("succeeded"), "{printed:?}");
    system.cleanup().await;
}

/// Returns the path of a program that cargo built.
fn built(program: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binaries = test.parent().and_then(|deps| deps.parent()).unwrap();
    binaries.join(program)
}

/// Runs `warmq top` in a terminal until it shows runners, then ends it.
async fn top(system: &System, end: [&str; 2]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/terminal.py");
    let output = Command::new("python3")
        .arg(script)
        .arg("Runners")
        .args(end)
        .arg(built("warmq"))
        .args(["--url", system.router.url(), "top", "--interval", "0.2"])
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(BOUND, output).await.unwrap().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn top_shows_the_system_and_restores_the_terminal_however_it_ends() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    system.succeeded(system.submit("m", 1).await).await;
    for end in [
        ["keys", "q"],
        ["keys", "\u{3}"],
        ["signal", "15"],
        ["signal", "2"],
    ] {
        let seen = top(&system, end).await;
        assert_eq!(seen["exit"], 0, "{end:?}: {seen}");
        assert_eq!(seen["restored"], true, "{end:?}: {seen}");
        let output = seen["output"].as_str().unwrap();
        for part in ["Queues", TIMED, "idle", LEAVE_SCREEN, SHOW_CURSOR] {
            assert!(
                output.contains(part),
                "{end:?}: {part:?} is missing: {output:?}"
            );
        }
    }
    let json = printed(&system, &["top", "--json"]).await;
    let snapshot: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(snapshot["runners"][0]["id"], "a");
    assert_eq!(snapshot["ended"][0]["state"], "succeeded");
    let refused = warmq(&system, &["top"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("--json"), "{refused:?}");
    system.cleanup().await;
}

#[tokio::test]
async fn completions_and_the_manual_page_name_every_command() {
    let system = System::start().await;
    let commands = ["submit", "jobs", "logs", "top", "explain", "completions"];
    for args in [
        &["completions", "bash"][..],
        &["completions", "zsh"],
        &["completions", "fish"],
        &["man"],
    ] {
        let text = printed(&system, args).await;
        for command in commands {
            assert!(text.contains(command), "{args:?} lacks {command}");
        }
    }
    let script = printed(&system, &["completions", "bash"]).await;
    let complete = "COMP_WORDS=(warmq job) COMP_CWORD=1; _warmq warmq job warmq";
    let check = format!("{script}\n{complete}; echo ${{COMPREPLY[*]}}");
    let completed = Command::new("bash").args(["--norc", "-c", &check]).output();
    let completed = String::from_utf8(completed.await.unwrap().stdout).unwrap();
    assert_eq!(completed.trim(), "jobs");
    system.cleanup().await;
}
