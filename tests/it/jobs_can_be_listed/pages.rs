//! Pages are complete and without duplicates, whatever happens meanwhile.

use std::collections::BTreeSet;

use redis::AsyncCommands;
use serde_json::json;
use warmq_tests::System;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobSpec;
use warmq_types::state::JobState;

use super::{all, ids, page};

#[tokio::test]
async fn pages_are_complete_while_jobs_arrive_and_run() {
    let system = System::with_config(&format!("[apps.'{TIMED}']")).await;
    let mut submitted = BTreeSet::new();
    for _ in 0..40 {
        submitted.insert(system.submit("m", 5).await);
    }
    // They change their states while the list is read.
    let _worker = system.timed_worker("a").await;
    let reading = async {
        let mut lists = Vec::new();
        while lists.len() < 10 {
            lists.push(ids(&all(&system, "limit=7").await));
        }
        lists
    };
    let arriving = async {
        for _ in 0..40 {
            system.submit("m", 5).await;
        }
    };
    let (lists, ()) = tokio::join!(reading, arriving);
    for list in lists {
        assert!(list.is_sorted_by(|newer, older| newer > older), "{list:?}");
        let list: BTreeSet<JobId> = list.into_iter().collect();
        let missing: Vec<_> = submitted.difference(&list).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
    assert_eq!(all(&system, "").await.len(), 80);
    system.cleanup().await;
}

#[tokio::test]
async fn a_listed_job_has_the_fields_of_its_record() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let input = json!({"run_ms": 5, "load_ms": 5, "fail": "bad luck"});
    let id = system.submit_to(TIMED, "m", input).await;
    system.ended(id).await;
    let mut record = system.get(&format!("/v1/jobs/{id}")).await.body;
    let listed = system.get("/v1/jobs").await.body["jobs"][0].clone();
    let fields = listed.as_object().unwrap();
    for name in ["id", "state", "hint", "runner", "started_ms", "timings"] {
        assert!(fields.contains_key(name), "{name} is missing: {listed}");
    }
    record["error"].as_object_mut().unwrap().remove("detail");
    for (name, value) in fields {
        assert_eq!(record[name], *value, "{name}");
    }
    assert!(!fields.contains_key("input"), "{listed}");
    system.cleanup().await;
}

#[tokio::test]
async fn the_end_of_a_list_is_marked_and_a_cursor_may_be_any_job_or_time() {
    let system = System::with_config(&format!("[apps.'{TIMED}']")).await;
    assert_eq!(page(&system, "").await.next, None);
    let mut newest_first = Vec::new();
    for _ in 0..4 {
        newest_first.insert(0, system.submit("m", 1).await);
    }
    let first = page(&system, "limit=2").await;
    assert_eq!(ids(&first.jobs), newest_first[..2]);
    assert_eq!(first.next, Some(newest_first[1]));
    let second = page(&system, &format!("limit=2&before={}", newest_first[1])).await;
    assert_eq!(ids(&second.jobs), newest_first[2..]);
    assert_eq!(second.next, None);
    let now_ms = system.testbed.store().now_ms().await.unwrap();
    let earlier = page(&system, &format!("before={}", now_ms + 60_000)).await;
    assert_eq!(ids(&earlier.jobs), newest_first);
    let past = page(&system, &format!("before={}", now_ms - 600_000)).await;
    assert_eq!((past.jobs, past.next), (Vec::new(), None));
    system.cleanup().await;
}

#[tokio::test]
async fn a_flow_and_its_steps_are_listed() {
    let system = System::with_config(&format!(
        r#"
        [apps."{TIMED}"]
        [routes."acme/pipeline"]
        kind = "sequence"
        steps = [{{ name = "one", app = "{TIMED}" }}, {{ name = "two", app = "{TIMED}" }}]
        [routes."acme/split"]
        kind = "split"
        to = [{{ app = "{TIMED}", weight = 1 }}]
        "#
    ))
    .await;
    let _worker = system.timed_worker("a").await;
    let flow = system
        .submit_to("acme/pipeline", "m", json!({"run_ms": 1}))
        .await;
    system.succeeded(flow).await;
    let flows = all(&system, "app=acme/pipeline").await;
    assert_eq!(ids(&flows), [flow]);
    let summary = flows[0].flow.unwrap();
    assert_eq!((summary.step, summary.of), (2, 2));
    let steps = all(&system, &format!("app={TIMED}")).await;
    assert_eq!(steps.len(), 2);
    for step in steps {
        assert_eq!(step.step_of.unwrap().flow, flow);
    }
    let split = system
        .submit_to("acme/split", "m", json!({"run_ms": 1}))
        .await;
    let listed = page(&system, "limit=1").await.jobs.remove(0);
    assert_eq!((listed.id, listed.app.as_str()), (split, TIMED));
    assert_eq!(listed.submitted_to.unwrap().as_str(), "acme/split");
    system.cleanup().await;
}

#[tokio::test]
async fn an_ended_job_leaves_the_list_with_its_record() {
    let system = System::with_config(&format!("[apps.'{TIMED}']")).await;
    let (store, app) = (system.testbed.store(), AppId::parse(TIMED).unwrap());
    let mut jobs = Vec::new();
    for number in 0..3 {
        let job = JobSpec {
            retention_s: Some(1),
            hint: Some("m".parse().unwrap()),
            owner: Some("alice-1".parse().unwrap()),
            ..JobSpec::new(app.clone(), json!({"number": number}))
        };
        store.jobs().create(&job).await.unwrap();
        jobs.push(job.id);
    }
    assert_eq!(page(&system, "key=alice-1").await.jobs.len(), 3);
    for job in jobs {
        store.cancellation().cancel(&app, job).await.unwrap();
    }
    let none = async || page(&system, "").await.jobs.is_empty().then_some(());
    system.until("none is listed", TIMEOUT, none).await;
    let redis = redis::Client::open(system.testbed.redis_url().expose()).unwrap();
    let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
    for key in ["job_list", "job_list_trims"] {
        let key = format!("{}:{key}", system.testbed.namespace());
        let what = format!("{key} is empty");
        let gone = async || {
            let exists: bool = redis.exists(&key).await.unwrap();
            (!exists).then_some(())
        };
        system.until(&what, TIMEOUT, gone).await;
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_record_that_redis_lost_or_that_is_unreadable_hides_no_other_job() {
    let system = System::with_config(&format!("[apps.'{TIMED}']")).await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(system.submit("m", 1).await);
    }
    let redis = redis::Client::open(system.testbed.redis_url().expose()).unwrap();
    let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
    let namespace = system.testbed.namespace();
    let key = |job: JobId| format!("{namespace}:{{{TIMED}}}:job:{job}");
    let _: () = redis.del(key(jobs[0])).await.unwrap();
    let _: () = redis.del(key(jobs[1])).await.unwrap();
    let _: () = redis.set(key(jobs[1]), "not a hash").await.unwrap();
    for query in ["", "state=queued", "app=bench/timed", "hint=m"] {
        let listed = page(&system, query).await;
        assert_eq!(ids(&listed.jobs), [jobs[2]], "{query}");
    }
    assert_eq!(system.job(jobs[2]).await.state, JobState::Queued);
    let list = format!("{namespace}:job_list");
    let entries: Vec<String> = redis.zrange(list, 0, -1).await.unwrap();
    let lost = jobs[0].to_string();
    // The list by hint was not read: that by state was shorter.
    let is_stale = |entry: &String| !entry.starts_with("h=") && entry.contains(&lost);
    assert!(!entries.iter().any(is_stale), "{entries:?}");
    system.cleanup().await;
}
