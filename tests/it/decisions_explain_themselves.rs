//! Decisions can be inspected afterwards: in the record, by `warmq explain`, in `/metrics`.

use std::collections::BTreeSet;

use serde_json::json;
use warmq_testkit::eventually;
use warmq_tests::System;
use warmq_tests::metrics::Page;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

/// Runs `warmq explain` and returns its lines.
async fn explain(system: &System, id: JobId) -> Vec<String> {
    let this = std::env::current_exe().unwrap();
    let warmq = this.ancestors().nth(2).unwrap().join("warmq");
    let output = tokio::process::Command::new(warmq)
        .args(["--url", system.router.url(), "explain", &id.to_string()])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn has(story: &[String], start: &str, end: &str) -> bool {
    story
        .iter()
        .any(|line| line.starts_with(start) && line.ends_with(end))
}

async fn metrics(system: &System) -> Page {
    let answer = system.get("/metrics").await;
    assert_eq!(
        answer.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    Page::read(&String::from_utf8(answer.bytes).unwrap())
}

/// Waits until a series has this value.
async fn shows(system: &System, name: &str, labels: &[(&str, &str)], value: f64) {
    let labels = [&[("app", TIMED)], labels].concat();
    let what = format!("{name}{labels:?} is {value}");
    let shown = eventually(&what, TIMEOUT, async || {
        (metrics(system).await.get(name, &labels) == Some(value)).then_some(())
    });
    if let Err(error) = shown.await {
        panic!("{error}: {:#?}", metrics(system).await);
    }
}

#[tokio::test]
async fn explain_prints_why_and_how_long_a_job_was_held() {
    let system = System::start().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let first = system.succeeded(system.submit("hot", 10).await).await;
    let runner = first.runner.unwrap();
    system.all_idle(TIMED).await;
    let busy = system.submit("hot", 4000).await;
    system.reached(busy, JobState::Running).await;

    let id = system.submit("hot", 10).await;
    shows(&system, "warmq_held_jobs", &[], 1.0).await;
    shows(&system, "warmq_idle_runners", &[], 1.0).await;
    let why = "the dispatcher held it for a warm runner: the one runner with 'hot' was busy, and one was expected \
               sooner than loading 'hot' once more pays.";
    let story = system.until("the hold is recorded", TIMEOUT, async || {
        let story = explain(&system, id).await;
        has(&story, "After ", why).then_some(story)
    });
    let story = story.await;
    assert!(
        has(
            &story,
            "A warm one was predicted in ",
            " at most any idle runner that can load it will do."
        ),
        "{story:#?}"
    );
    assert_eq!(story.last().unwrap(), "It has not started.");

    let job = system.succeeded(id).await;
    let (hold, decision) = (job.hold.unwrap(), job.decision.unwrap());
    assert!(decision.held_ms > 0 && decision.predicted_wait_ms.is_some());
    assert_eq!(hold.predicted_wait_ms, decision.predicted_wait_ms);
    // The sum is the moment of the claim; the clocks of dispatcher and Redis may differ slightly.
    let sent_ms = hold.since_ms + decision.held_ms;
    assert!(sent_ms.abs_diff(job.dispatched_ms.unwrap()) < 1000);
    let story = explain(&system, id).await;
    for (start, end) in [
        ("After ", why),
        ("A warm one was predicted in ", " s."),
        (
            "Then the dispatcher (policy 'warm') sent it to ",
            "came free, with 'hot' loaded.",
        ),
        (
            "At that moment 2 runners were idle, ",
            " with its model; 1 runner in all held it or was loading it.",
        ),
        ("It succeeded ", " after the submission."),
    ] {
        assert!(has(&story, start, end), "{start} … {end}: {story:#?}");
    }
    let as_predicted = "warm as predicted: nothing had to be loaded, and it ran ";
    let started = story.iter().find(|line| line.contains(as_predicted));
    assert!(
        started
            .unwrap()
            .starts_with(&format!("{runner} started it "))
    );

    let hot = [("hint", "hot")];
    shows(&system, "warmq_cold_loads_total", &hot, 1.0).await;
    shows(&system, "warmq_warm_hits_total", &hot, 2.0).await;
    shows(&system, "warmq_swaps_avoided_total", &hot, 1.0).await;
    shows(&system, "warmq_hold_seconds_count", &hot, 1.0).await;
    shows(&system, "warmq_load_seconds_count", &hot, 1.0).await;
    let to_runner = [("target", "runner")];
    shows(&system, "warmq_dispatched_total", &to_runner, 3.0).await;
    shows(&system, "warmq_held_jobs", &[], 0.0).await;
    shows(&system, "warmq_queued_jobs", &[], 0.0).await;
    shows(&system, "warmq_idle_runners", &[], 2.0).await;
    shows(&system, "warmq_live_runners", &[], 2.0).await;
    shows(&system, "warmq_leader", &[], 1.0).await;
    system.cleanup().await;
}

#[tokio::test]
async fn policy_fal_counts_too_and_only_the_leader_does() {
    let system = System::with_config("[apps.'bench/timed']\npolicy = 'fal'").await;
    let _worker = system.timed_worker("a").await;
    shows(&system, "warmq_leader", &[], 1.0).await;
    for _ in 0..2 {
        system.succeeded(system.submit("m", 10).await).await;
        system.all_idle(TIMED).await;
    }
    system.succeeded(system.submit("n", 10).await).await;
    shows(&system, "warmq_cold_loads_total", &[("hint", "m")], 1.0).await;
    shows(&system, "warmq_warm_hits_total", &[("hint", "m")], 1.0).await;
    shows(&system, "warmq_cold_loads_total", &[("hint", "n")], 1.0).await;
    shows(
        &system,
        "warmq_dispatched_total",
        &[("target", "runner")],
        2.0,
    )
    .await;
    shows(
        &system,
        "warmq_dispatched_total",
        &[("target", "shared")],
        1.0,
    )
    .await;

    // Another router has its own metrics, and leads no app.
    for roles in ["--roles=api", "--roles=dispatch"] {
        let other = system.testbed.router(&[roles]).await.unwrap();
        let page = reqwest::get(format!("{}/metrics", other.url()))
            .await
            .unwrap();
        assert!(page.status().is_success());
        let page = Page::read(&page.text().await.unwrap());
        assert!(page.by("warmq_dispatched_total", "target").is_empty());
        let apps = reqwest::get(format!("{}/v1/apps", other.url()))
            .await
            .unwrap();
        assert_eq!(apps.status().is_success(), roles == "--roles=api");
    }
    system.cleanup().await;
}

#[tokio::test]
async fn hostile_hints_do_not_break_the_page() {
    let system = System::with_config("[apps.'bench/timed']\nhint_from = 'input.model'").await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let nasty = [
        "a\"b",
        r#"a\"b"#,
        r"a\b",
        r"a\\b",
        r"a\",
        "a\nb",
        r"a\nb",
        "模型",
        "} 1",
        "\u{2028}\r\t",
    ];
    let many = (0..200).map(|number| format!("hint-{number}"));
    let mut jobs = Vec::new();
    for hint in nasty.iter().map(|hint| (*hint).to_owned()).chain(many) {
        let input = json!({"run_ms": 0, "load_ms": 0, "model": hint}).to_string();
        let answer = system.post(TIMED, &[], &input).await;
        let id = answer.job_id();
        jobs.push(id);
        if jobs.len() == nasty.len() {
            for id in &jobs {
                system.succeeded(*id).await;
            }
        }
    }
    for id in jobs.split_off(nasty.len()) {
        system.succeeded(id).await;
    }
    let counted = eventually("all loads are counted", TIMEOUT, async || {
        let by_hint = metrics(&system).await.by("warmq_cold_loads_total", "hint");
        (by_hint.values().sum::<f64>() == 210.0).then_some(by_hint)
    });
    let by_hint = counted.await.unwrap();
    assert_eq!(by_hint.len(), 101, "{by_hint:?}");
    assert_eq!(by_hint["other"], 110.0);
    let labels: BTreeSet<&str> = by_hint.keys().map(String::as_str).collect();
    for hint in nasty {
        assert!(labels.contains(hint), "{hint:?} in {labels:?}");
    }
    system.cleanup().await;
}
