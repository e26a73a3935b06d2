//! A namespace, workers in this process, and the parts of a router that tests need.

use std::time::Duration;

use futures::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use warmq_broker::{Message, Publisher};
use warmq_config::ByteSize;
use warmq_store::Claim;
use warmq_testkit::{Testbed, eventually};
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, JobId, RunnerId};
use warmq_types::job::{Decision, JobRecord, JobSpec, Priority, ReplyTo, Target};
use warmq_types::message::{DeferredResult, JobEvent, JobMessage, Versioned};
use warmq_types::runner::RunnerRecord;
use warmq_types::state::JobState;
use warmq_worker::config::Config;
use warmq_worker::context::Intervals;
use warmq_worker::engine::selection::ModelSelection;
use warmq_worker::engine::{EngineKind, Options};
use warmq_worker::input_files::DiskCache;

/// Timeout that suffices on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(30);

pub const APP: &str = "test/timed";

pub struct World {
    pub testbed: Testbed,
    pub app: AppId,
}

/// A worker in this process.
pub struct InProcess {
    stop: CancellationToken,
    task: JoinHandle<Result<(), warmq_worker::Error>>,
}

impl InProcess {
    /// Stops the worker and waits for its end.
    pub async fn stop(self) {
        self.request_stop();
        self.stopped().await;
    }

    pub fn request_stop(&self) {
        self.stop.cancel();
    }

    pub async fn stopped(self) {
        self.ended().await.unwrap();
    }

    /// Waits for the end and returns its result.
    pub async fn ended(self) -> Result<(), warmq_worker::Error> {
        let ended = tokio::time::timeout(TIMEOUT, self.task).await;
        ended.expect("it ends").unwrap()
    }
}

impl World {
    pub async fn new() -> Self {
        let testbed = Testbed::builder().start().await.unwrap();
        let app = AppId::parse(APP).unwrap();
        let channel = testbed.publisher().channel().await.unwrap();
        let topology = testbed.topology();
        topology.declare_base(&channel).await.unwrap();
        topology.declare_app(&channel, &app).await.unwrap();
        Self { testbed, app }
    }

    pub fn config(&self, name: &str) -> Config {
        let storage = format!("file://{}/files", self.testbed.folder().display());
        Config {
            servers: warmq_config::Servers {
                namespace: self.testbed.namespace().clone(),
                amqp_url: self.testbed.amqp_url().clone(),
                redis_url: self.testbed.redis_url().clone(),
                storage: storage.parse().unwrap(),
                queue_type: Default::default(),
                consumer_timeout: Duration::from_secs(1800),
                otlp_endpoint: None,
            },
            app: self.app.clone(),
            engine: Options {
                loras: None,
                kind: EngineKind::Timed,
                models: "models".into(),
                memory_budget: ByteSize(1 << 20),
                ram_budget: ByteSize(0),
                preload: Vec::new(),
                pin: Vec::new(),
                device: "auto".to_owned(),
                slots: 2,
                only: ModelSelection::default(),
                http: None,
            },
            runners: vec![RunnerId::parse(name).unwrap()],
            name: name.to_owned(),
            concurrency: None,
            accept_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(10),
            hang_grace: Duration::from_secs(2),
            fetch_allow: warmq_fetch::Allowed::default(),
            metrics_listen: None,
            lora_cache: DiskCache::new(self.testbed.folder().join("loras"), 1 << 30),
        }
    }

    /// Starts a worker and waits until it is registered.
    pub async fn worker(&self, name: &str) -> InProcess {
        self.worker_with(Intervals::default(), self.config(name))
            .await
    }

    /// Starts a worker without waiting.
    pub fn worker_that_may_fail(&self, intervals: Intervals, config: Config) -> InProcess {
        let stop = CancellationToken::new();
        let task = tokio::spawn(warmq_worker::run_at(intervals, config, stop.clone()));
        InProcess { stop, task }
    }

    pub async fn worker_with(&self, intervals: Intervals, config: Config) -> InProcess {
        let names = config.runners.clone();
        let worker = self.worker_that_may_fail(intervals, config);
        for name in names {
            self.until(&format!("{name} is idle"), async || {
                let runner = self.runner(name.as_str()).await?;
                runner.idle.then_some(())
            })
            .await;
        }
        worker
    }

    /// Forwards messages from the lanes to the shared queue until dropped.
    pub async fn redispatching(&self) -> Redispatching {
        let topology = self.testbed.topology();
        let backlog = topology.lane_queue(&self.app, Priority::Normal);
        let mut backlog = self.listen(&backlog).await;
        let publisher = self.testbed.publisher().clone();
        let shared = topology.shared_queue(&self.app);
        Redispatching(tokio::spawn(async move {
            loop {
                let message = Message::new(backlog.whenever().await.data);
                publisher.publish("", &shared, &message).await.unwrap();
            }
        }))
    }

    /// Waits until the runner is faulty.
    pub async fn faulty(&self, name: &str) -> RunnerRecord {
        self.until(&format!("{name} is faulty"), async || {
            let runner = self.runner(name).await?;
            runner.fault.is_some().then_some(runner)
        })
        .await
    }

    /// Waits until the runner is idle.
    pub async fn idle(&self, name: &str) -> RunnerRecord {
        self.until(&format!("{name} is idle"), async || {
            let runner = self.runner(name).await?;
            runner.idle.then_some(runner)
        })
        .await
    }

    pub async fn until<T>(&self, what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
        eventually(what, TIMEOUT, probe).await.unwrap()
    }

    pub async fn runner(&self, name: &str) -> Option<RunnerRecord> {
        let runners = self
            .testbed
            .store()
            .runners()
            .list(&self.app)
            .await
            .unwrap();
        runners
            .into_iter()
            .find(|runner| runner.id.as_str() == name)
    }

    /// Returns a job whose submitter expects a reply, so that its end has an event.
    pub fn spec(&self, hint: &str, input: Value) -> JobSpec {
        JobSpec {
            hint: Hint::parse_optional(hint).unwrap(),
            reply_to: Some(ReplyTo {
                queue: "reply.test".to_owned(),
                correlation_id: None,
            }),
            ..JobSpec::new(self.app.clone(), input)
        }
    }

    /// Records a job and publishes it to the shared queue.
    pub async fn share(&self, hint: &str, input: Value) -> JobSpec {
        let job = self.spec(hint, input);
        self.testbed.store().jobs().create(&job).await.unwrap();
        self.publish_shared(&job).await;
        job
    }

    pub async fn publish_shared(&self, job: &JobSpec) {
        let queue = self.testbed.topology().shared_queue(&self.app);
        self.publish("", &queue, job).await;
    }

    /// Records a job, claims `runner` for it, and publishes it to the runner's own queue.
    pub async fn send_to(&self, runner: &str, hint: &str, input: Value) -> JobSpec {
        let job = self.spec(hint, input);
        self.testbed.store().jobs().create(&job).await.unwrap();
        assert!(
            self.try_send_to(&job, runner).await,
            "{runner} was not idle"
        );
        job
    }

    /// Returns false if the claim failed.
    pub async fn try_send_to(&self, job: &JobSpec, runner: &str) -> bool {
        let id = RunnerId::parse(runner).unwrap();
        let decision = Decision {
            policy: "test".to_owned(),
            target: Target::Runner { runner: id.clone() },
            warm: false,
            tier: None,
            warm_candidates: Vec::new(),
            blank_candidates: Vec::new(),
            idle_runners: 1,
            holders: None,
            predicted_wait_ms: None,
            held_ms: 0,
            refused_claims: 0,
            reason: "a test said so".to_owned(),
        };
        let store = self.testbed.store();
        let claim = store
            .placement()
            .claim(&self.app, job.id, &id, 2_000, &decision)
            .await;
        match claim.unwrap() {
            Claim::Won(epoch) => {
                let queue = self.testbed.topology().runner_queue(&id, epoch);
                self.publish("", &queue, job).await;
                true
            }
            Claim::Refused => false,
            Claim::Unavailable(reason) => panic!("{reason:?}"),
        }
    }

    pub async fn publish(&self, exchange: &str, key: &str, job: &JobSpec) {
        let body = JobMessage::new(job.clone()).encode().unwrap();
        let publisher: &Publisher = self.testbed.publisher();
        publisher
            .publish(exchange, key, &Message::new(body))
            .await
            .unwrap();
    }

    pub async fn record(&self, job: &JobSpec) -> Option<JobRecord> {
        self.testbed
            .store()
            .jobs()
            .job_of(&self.app, job.id)
            .await
            .unwrap()
    }

    pub async fn reached(&self, job: &JobSpec, state: JobState) -> JobRecord {
        let mut last = None;
        let reached = eventually(&format!("the job is {state}"), TIMEOUT, async || {
            last = self.record(job).await;
            last.clone().filter(|record| record.state == state)
        })
        .await;
        reached.unwrap_or_else(|error| panic!("{error}: {last:?}"))
    }

    /// Consumes and acknowledges the messages of a queue.
    pub async fn listen(&self, queue: &str) -> Listener {
        let connection = warmq_broker::connect(self.testbed.amqp_url(), "listener");
        let connection = connection.await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let consumer = channel
            .basic_consume(
                queue.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        Listener {
            consumer,
            _connection: connection,
        }
    }

    /// Consumes the events of all jobs from now on.
    pub async fn events(&self) -> Listener {
        let channel = self.testbed.publisher().channel().await.unwrap();
        let queue = format!("{}.test-events", self.testbed.namespace());
        let options = QueueDeclareOptions {
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.as_str().into(), options, FieldTable::default())
            .await
            .unwrap();
        channel
            .queue_bind(
                queue.as_str().into(),
                self.testbed.topology().events_exchange().into(),
                "#".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        self.listen(&queue).await
    }

    pub async fn end(self, workers: impl IntoIterator<Item = InProcess>) {
        for worker in workers {
            worker.stop().await;
        }
        self.testbed.cleanup().await.unwrap();
    }
}

/// A task that is aborted when this is dropped.
pub struct Redispatching(JoinHandle<()>);

impl Drop for Redispatching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub struct Listener {
    consumer: lapin::Consumer,
    _connection: lapin::Connection,
}

impl Listener {
    pub async fn message(&mut self) -> lapin::message::Delivery {
        let next = tokio::time::timeout(TIMEOUT, self.consumer.next()).await;
        let delivery = next.expect("a message comes").unwrap().unwrap();
        delivery
            .acker
            .ack(BasicAckOptions::default())
            .await
            .unwrap();
        delivery
    }

    pub async fn job(&mut self) -> JobSpec {
        JobMessage::decode(&self.message().await.data).unwrap().job
    }

    pub async fn deferred_result(&mut self) -> DeferredResult {
        DeferredResult::decode(&self.message().await.data).unwrap()
    }

    /// As [`Listener::message`], without a timeout.
    async fn whenever(&mut self) -> lapin::message::Delivery {
        let delivery = self.consumer.next().await.unwrap().unwrap();
        delivery
            .acker
            .ack(BasicAckOptions::default())
            .await
            .unwrap();
        delivery
    }

    /// As [`Listener::job`], without a timeout.
    pub async fn job_whenever(&mut self) -> JobSpec {
        let delivery = self.whenever().await;
        JobMessage::decode(&delivery.data).unwrap().job
    }

    /// Returns the next job with the rest of its message.
    pub async fn job_message(&mut self) -> JobMessage {
        JobMessage::decode(&self.message().await.data).unwrap()
    }

    pub async fn event(&mut self) -> (JobId, JobState) {
        let event = JobEvent::decode(&self.message().await.data).unwrap();
        (event.job_id, event.state)
    }
}

/// Returns an input that runs for `run_ms`.
pub fn takes(run_ms: u64) -> Value {
    json!({"run_ms": run_ms, "load_ms": 10})
}
