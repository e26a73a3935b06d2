//! Engine `http` on a real server that misbehaves on demand: each test is a sentence of
//! docs/runner-protocol.md.

mod offer;
mod process;
mod readiness;
mod results;
mod stub;

use serde_json::{Value, json};
use warmq_types::job::{JobRecord, JobSpec};
use warmq_types::state::JobState;
use warmq_worker::config::Config;
use warmq_worker::engine::EngineKind;
use warmq_worker::engine::http::options::{Options, Target};

use self::stub::Stub;
use crate::harness::{InProcess, World};

/// A configuration of runner `a` for a server.
fn config(world: &World, target: Target) -> Config {
    let mut config = world.config("a");
    config.engine.kind = EngineKind::Http;
    config.engine.http = Some(Options::new(target));
    config
}

fn running(stub: &Stub) -> Target {
    Target::Running(stub.url().parse().unwrap())
}

/// A world with a server and a worker for it, whose runner is idle.
struct Scene {
    world: World,
    stub: Stub,
    worker: InProcess,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new().await;
        let stub = Stub::start().await;
        let config = config(&world, running(&stub));
        let worker = world.worker_with(Default::default(), config).await;
        Self {
            world,
            stub,
            worker,
        }
    }

    /// Runs a job that succeeds.
    async fn output(&self, hint: &str, input: Value) -> Value {
        let job = self.world.share(hint, input).await;
        let record = self.world.reached(&job, JobState::Succeeded).await;
        record.output.unwrap()
    }

    /// Runs a job that fails for good.
    async fn failed(&self, input: Value) -> JobRecord {
        let job = self.world.share("", input).await;
        self.world.reached(&job, JobState::Failed).await
    }

    async fn hints(&self) -> Vec<String> {
        let runner = self.world.runner("a").await.unwrap();
        runner.hints.into_iter().map(String::from).collect()
    }

    /// Waits until the runner reports these hints.
    async fn until_hints(&self, expected: &[&str]) {
        self.world
            .until(&format!("the hints are {expected:?}"), async || {
                (self.hints().await == expected).then_some(())
            })
            .await;
    }

    async fn job_posted(&self, job: &JobSpec) {
        self.world
            .until("the job is posted", async || {
                let runs = self
                    .stub
                    .behaviour
                    .running
                    .load(std::sync::atomic::Ordering::SeqCst);
                let record = self.world.record(job).await?;
                (runs > 0 && record.state == JobState::Running).then_some(())
            })
            .await;
    }

    async fn end(self) {
        self.world.end([self.worker]).await;
    }
}

fn respond(status: u16, body: Value, headers: Value) -> Value {
    json!({"do": "respond", "status": status, "body": body, "headers": headers})
}
