//! Filters of a list.

use serde_json::json;
use warmq_tests::System;
use warmq_tests::system::TIMED;
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

use super::{all, detail, ids, page};

/// Apps of the jobs.
const CONFIG: &str = "[apps.'bench/timed']\n[apps.'other/app']";

#[tokio::test]
async fn filters_combine() {
    let system = System::with_config(CONFIG).await;
    let mut jobs: Vec<(JobId, &str, &str)> = Vec::new();
    for (app, hint) in [
        (TIMED, "one"),
        (TIMED, "two models"),
        ("other/app", "one"),
        ("other/app", "größe 1"),
    ] {
        for _ in 0..2 {
            let job = system.submit_to(app, hint, json!({"run_ms": 1})).await;
            jobs.insert(0, (job, app, hint));
        }
    }
    let (cancelled, ..) = jobs[0];
    let path = format!("/v1/jobs/{cancelled}");
    let ended = system.http(reqwest::Method::DELETE, &path, &[], "").await;
    assert_eq!(ended.status, 200);
    let of = |passes: &dyn Fn(&(JobId, &str, &str)) -> bool| -> Vec<JobId> {
        let passing = jobs.iter().filter(|job| passes(job));
        passing.map(|(job, ..)| *job).collect()
    };
    for (query, expected) in [
        ("", of(&|_| true)),
        ("app=other/app", of(&|(_, app, _)| *app == "other/app")),
        ("hint=one", of(&|(.., hint)| *hint == "one")),
        ("hint=two+models", of(&|(.., hint)| *hint == "two models")),
        (
            "hint=gr%C3%B6%C3%9Fe+1",
            of(&|(.., hint)| *hint == "größe 1"),
        ),
        (
            "hint=one&app=other/app",
            of(&|(_, app, hint)| (*app, *hint) == ("other/app", "one")),
        ),
        ("hint=on", Vec::new()),
        ("state=cancelled", vec![cancelled]),
        ("state=queued", of(&|(job, ..)| *job != cancelled)),
        ("state=queued,cancelled", of(&|_| true)),
        ("state=cancelled&app=bench/timed", Vec::new()),
        ("state=cancelled&hint=gr%C3%B6%C3%9Fe+1", vec![cancelled]),
        ("state=cancelled&hint=one", Vec::new()),
        ("app=no/where", Vec::new()),
        ("key=unknown-1", Vec::new()),
    ] {
        for limit in [1, 3, 200] {
            let found = all(&system, &format!("limit={limit}&{query}")).await;
            assert_eq!(ids(&found), expected, "{query} by {limit}");
        }
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_is_listed_in_its_current_state_only() {
    let system = System::with_config(CONFIG).await;
    let job = system.submit("m", 60_000).await;
    let assert_listed = async |state: JobState| {
        for other in JobState::ALL {
            let listed = page(&system, &format!("state={other}")).await;
            let expected = if other == state { 1 } else { 0 };
            assert_eq!(listed.jobs.len(), expected, "{other} of a {state} job");
        }
    };
    assert_listed(JobState::Queued).await;
    let worker = system.timed_worker("a").await;
    system.reached(job, JobState::Running).await;
    assert_listed(JobState::Running).await;
    let path = format!("/v1/jobs/{job}");
    system.http(reqwest::Method::DELETE, &path, &[], "").await;
    assert_listed(JobState::Cancelled).await;
    drop(worker);
    system.cleanup().await;
}

#[tokio::test]
async fn a_mistake_is_reported_with_its_parameter() {
    let system = System::with_config(CONFIG).await;
    for (query, words) in [
        (
            "state=done",
            ["state", "'done' is not one of queued, dispatched"],
        ),
        ("state=queued,", ["state", "''"]),
        ("app=nobody", ["app", "'nobody' is not an app name"]),
        ("hint=", ["hint", "a hint must not be empty"]),
        ("key=A:b", ["key", "'A:b' is not a key's id"]),
        ("before=yesterday", ["before", "'yesterday' is neither"]),
        ("limit=0", ["limit", "from 1 to 200"]),
        ("limit=201", ["limit", "from 1 to 200"]),
        ("limit=many", ["limit", "'many'"]),
        ("sate=queued", ["sate", "state"]),
    ] {
        let answer = system.get(&format!("/v1/jobs?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {:?}", answer.body);
        for word in words {
            let detail = detail(&answer.body);
            assert!(detail.contains(word), "{query}: {detail}");
        }
    }
    system.cleanup().await;
}
