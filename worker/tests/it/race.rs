//! Claims and the shared queue at once: every job ends exactly once.

use std::collections::HashMap;

use warmq_types::ids::JobId;
use warmq_types::job::Priority;
use warmq_types::state::JobState;

use crate::harness::{World, takes};

const JOBS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_from_both_queues_at_once_all_end_once() {
    let world = World::new().await;
    let names = ["a", "b", "c"];
    let mut workers = Vec::new();
    for name in names {
        workers.push(world.worker(name).await);
    }
    let mut events = world.events().await;
    let backlog = world
        .testbed
        .topology()
        .lane_queue(&world.app, Priority::Normal);
    let mut backlog = world.listen(&backlog).await;

    // The dispatcher: every other job to a claimed runner, the rest to the shared queue; returned
    // jobs go to the shared queue.
    let dispatch = async {
        for index in 0..JOBS {
            let job = world.spec(
                ["x", "y", "z"][index % 3],
                serde_json::json!({"run_ms": 5, "load_ms": 5}),
            );
            world.testbed.store().jobs().create(&job).await.unwrap();
            let claimed = index % 2 == 0 && world.try_send_to(&job, names[index / 2 % 3]).await;
            if !claimed {
                world.publish_shared(&job).await;
            }
        }
    };
    let redispatch = async {
        loop {
            let job = backlog.job_whenever().await;
            world.publish_shared(&job).await;
        }
    };
    let count = async {
        let mut ends: HashMap<JobId, usize> = HashMap::new();
        while ends.len() < JOBS {
            let (job, state) = events.event().await;
            assert_eq!(state, JobState::Succeeded);
            *ends.entry(job).or_default() += 1;
        }
        ends
    };
    let ends = tokio::select! {
        (ends, ()) = async { tokio::join!(count, dispatch) } => ends,
        () = redispatch => unreachable!("it never ends"),
    };
    assert!(ends.values().all(|times| *times == 1), "{ends:?}");
    for id in ends.keys() {
        let record = world
            .testbed
            .store()
            .jobs()
            .job_of(&world.app, *id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((record.state, record.attempt), (JobState::Succeeded, 1));
    }
    let job = world.share("", takes(1)).await;
    world.reached(&job, JobState::Succeeded).await;
    world.end(workers).await;
}
