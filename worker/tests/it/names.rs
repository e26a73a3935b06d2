//! Two workers with one name.

use std::time::Duration;

use warmq_store::{Registration, RunnerReport};
use warmq_types::ids::{Epoch, RunnerId};
use warmq_types::state::JobState;
use warmq_worker::config::Config;
use warmq_worker::context::Intervals;

use crate::harness::{World, takes};

fn quick() -> Intervals {
    Intervals {
        heartbeat: Duration::from_millis(300),
        ..Intervals::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_worker_of_a_live_runners_name_is_refused_and_the_first_goes_on() {
    let world = World::new().await;
    let worker = world.worker_with(quick(), world.config("a")).await;
    let first = world.runner("a").await.unwrap();
    let second = world.worker_that_may_fail(quick(), world.config("a"));
    let error = second.ended().await.unwrap_err();
    assert_eq!(error.exit_code(), 64, "{error}");
    let complaint = error.to_string();
    for part in ["runner 'a' is alive", first.host.as_str(), "--runner-name"] {
        assert!(complaint.contains(part), "{part}: {complaint}");
    }
    assert_eq!(world.runner("a").await.unwrap().epoch, first.epoch);
    let job = world.send_to("a", "", takes(1)).await;
    world.reached(&job, JobState::Succeeded).await;
    world.end([worker]).await;
}

/// Registers a worker that was killed elsewhere.
async fn register_killed(world: &World, name: &str, lease: Duration) -> Registration {
    let killed = Registration {
        app: world.app.clone(),
        runner: RunnerId::parse(name).unwrap(),
        epoch: Epoch(1),
        host: "elsewhere".to_owned(),
        pid: 1,
        instance: "another".to_owned(),
        engine: "timed".to_owned(),
        device: "none".to_owned(),
        memory_budget_bytes: 0,
        ram_budget_bytes: 0,
        models: Vec::new(),
        report: RunnerReport::default(),
    };
    let schema = serde_json::json!({});
    let membership = world.testbed.store().membership();
    let registered = membership.register(&killed, &schema, lease).await;
    registered.unwrap();
    killed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_of_a_worker_that_was_killed_is_free_once_its_lease_lapsed() {
    let world = World::new().await;
    let killed = register_killed(&world, "a", Duration::from_secs(2)).await;
    let store = world.testbed.store();
    let third = Registration {
        instance: "a third".to_owned(),
        ..killed.clone()
    };
    assert_eq!(
        store
            .faults()
            .name_conflict(&third)
            .await
            .unwrap()
            .unwrap()
            .host,
        "elsewhere"
    );
    let worker = world.worker_that_may_fail(quick(), world.config("a"));
    let joined = world
        .until("it has the name", async || {
            let runner = world.runner("a").await?;
            (runner.epoch > Epoch(1)).then_some(runner)
        })
        .await;
    assert!(joined.idle && joined.host != "elsewhere");
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_works_while_another_one_of_its_process_cannot_join_yet() {
    let world = World::new().await;
    register_killed(&world, "b", Duration::from_secs(600)).await;
    let config = Config {
        runners: ["a", "b"].map(|name| RunnerId::parse(name).unwrap()).into(),
        ..world.config("a")
    };
    let worker = world.worker_that_may_fail(quick(), config);
    world
        .until("a is idle", async || {
            world.runner("a").await?.idle.then_some(())
        })
        .await;
    let job = world.send_to("a", "", takes(1)).await;
    world.reached(&job, JobState::Succeeded).await;
    assert_eq!(world.runner("b").await.unwrap().host, "elsewhere");
    world.end([worker]).await;
}
