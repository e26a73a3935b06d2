//! Keys share the runners of an app by weight, up to their own limits.

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use warmq_tests::System;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::access::{Limits, MaxRunning, Weight};
use warmq_types::ids::JobId;
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

use super::{client, key, keyed, limited};

/// Scopes of a key that submits jobs.
const SUBMIT: [&str; 2] = ["submit:*", "read"];

async fn submit_for(system: &System, key: &str, run_ms: u64) -> JobId {
    let authorization = format!("Key {key}");
    let headers = [("authorization", authorization.as_str())];
    let body = json!({ "run_ms": run_ms }).to_string();
    let path = format!("/queue/{TIMED}");
    let submitted = system.http(Method::POST, &path, &headers, body).await;
    submitted.job_id()
}

async fn submit_many(system: &System, key: &str, jobs: usize, run_ms: u64) -> Vec<JobId> {
    join_all((0..jobs).map(|_| submit_for(system, key, run_ms))).await
}

fn at_most(jobs: u64) -> Limits {
    Limits {
        max_running: Some(MaxRunning::new(jobs).unwrap()),
        ..Limits::default()
    }
}

/// Waits until one of the jobs is held. Returns the reason.
async fn until_held(system: &System, ids: &[JobId]) -> String {
    let held = async || {
        let jobs = join_all(ids.iter().map(|id| system.job(*id))).await;
        jobs.into_iter().find_map(|job| Some(job.hold?.reason))
    };
    system.until("a job is held", TIMEOUT, held).await
}

/// Returns the most jobs of these that ran at the same time.
fn most_at_once(jobs: &[JobRecord]) -> usize {
    let span = |job: &JobRecord| (job.started_ms.unwrap(), job.finished_ms.unwrap());
    let at = |time_ms: u64| {
        let running = jobs.iter().map(span);
        running
            .filter(|(start_ms, end_ms)| (start_ms..end_ms).contains(&&time_ms))
            .count()
    };
    jobs.iter().map(|job| at(span(job).0)).max().unwrap_or(0)
}

#[tokio::test]
async fn a_job_does_not_wait_for_all_jobs_of_a_key_that_floods_the_app() {
    let system = keyed().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let flood = key(&system, "flood", &SUBMIT).await;
    let steady = key(&system, "steady", &SUBMIT).await;
    let flooded = submit_many(&system, &flood, 200, 50).await;
    let job = submit_for(&system, &steady, 50).await;
    let job = system.succeeded(job).await;
    let flooded = join_all(flooded.iter().map(|id| system.job(*id))).await;
    let earlier = (flooded.iter()).filter(|other| {
        other
            .finished_ms
            .is_some_and(|end_ms| end_ms < job.started_ms.unwrap())
    });
    let (earlier, all) = (earlier.count(), flooded.len());
    // Those that ended until the last submission, and at most a few more.
    let ended = (flooded.iter()).filter(|other| {
        other
            .finished_ms
            .is_some_and(|end_ms| end_ms < job.spec.created_ms)
    });
    assert!(
        earlier <= ended.count() + 6,
        "{earlier} of {all} came first"
    );
    system.cleanup().await;
}

#[tokio::test]
async fn keys_with_waiting_jobs_get_time_by_weight() {
    let system = keyed().await;
    let weight = |weight| Limits {
        weight: Some(Weight::new(weight).unwrap()),
        ..Limits::default()
    };
    let heavy = limited(&system, "heavy", &SUBMIT, weight(3.0)).await;
    let light = limited(&system, "light", &SUBMIT, weight(1.0)).await;
    // They wait until a runner comes.
    let heavy = submit_many(&system, &heavy, 40, 40).await;
    let light = submit_many(&system, &light, 40, 40).await;
    let _worker = system.timed_worker("a").await;
    let mut ended = Vec::new();
    for (ids, is_heavy) in [(heavy, true), (light, false)] {
        for job in join_all(ids.into_iter().map(|id| system.succeeded(id))).await {
            ended.push((job.finished_ms.unwrap(), is_heavy));
        }
    }
    ended.sort_unstable();
    let of_heavy = ended[..40].iter().filter(|(_, is_heavy)| *is_heavy).count();
    assert!((26..=34).contains(&of_heavy), "{of_heavy} of 40");
    system.cleanup().await;
}

#[tokio::test]
async fn a_key_has_at_most_max_running_jobs_on_runners() {
    let system = keyed().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
        system.timed_worker("c").await,
    ];
    let bounded = limited(&system, "bounded", &SUBMIT, at_most(2)).await;
    let ids = submit_many(&system, &bounded, 8, 300).await;
    let held = until_held(&system, &ids).await;
    assert!(held.contains("max_running"), "{held}");
    // The third runner is free for others.
    let other = key(&system, "other", &SUBMIT).await;
    let other = submit_for(&system, &other, 10).await;
    let other = system.succeeded(other).await;
    let jobs = join_all(ids.iter().map(|id| system.succeeded(*id))).await;
    assert_eq!(most_at_once(&jobs), 2);
    let last_ms = jobs.iter().filter_map(|job| job.finished_ms).max();
    assert!(other.finished_ms < last_ms, "the other key waited");
    system.cleanup().await;
}

#[tokio::test]
async fn a_raised_limit_releases_waiting_jobs() {
    let system = keyed().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let root = client(system.router.url(), super::ROOT);
    let wished = super::wished("bounded", &SUBMIT, at_most(1));
    let bounded = root.create_key(&wished).await.unwrap();
    let long = submit_for(&system, &bounded.credentials, 60_000).await;
    system.reached(long, JobState::Running).await;
    let next = submit_for(&system, &bounded.credentials, 10).await;
    until_held(&system, &[next]).await;
    root.set_limits(&bounded.key.id, at_most(2)).await.unwrap();
    system.succeeded(next).await;
    assert_eq!(system.job(long).await.state, JobState::Running);
    system.cleanup().await;
}

#[tokio::test]
async fn the_next_leader_counts_the_running_jobs_of_a_key() {
    let mut system = keyed().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let bounded = limited(&system, "bounded", &SUBMIT, at_most(1)).await;
    let long = submit_for(&system, &bounded, 3000).await;
    system.reached(long, JobState::Running).await;
    system.replace_router(&[]).await;
    let next = submit_for(&system, &bounded, 10).await;
    let jobs = [
        system.ended_within(long, TIMEOUT).await,
        system.succeeded(next).await,
    ];
    assert_eq!(most_at_once(&jobs), 1, "{jobs:?}");
    system.cleanup().await;
}
