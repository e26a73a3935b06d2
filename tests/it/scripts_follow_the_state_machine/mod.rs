//! The Lua scripts follow the table of states: any sequence of calls leaves the record in the state
//! of the table.

mod attempts;
mod calls;
mod interventions;
mod model;
mod placement;

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use warmq_store::{JobFilter, Store, Unavailable};
use warmq_testkit::{Testbed, registration};
use warmq_types::ids::{AppId, JobId, KeyId, Namespace, RunnerId};
use warmq_types::job::JobSpec;
use warmq_types::state::JobState;

use self::calls::{Call, calls};
use self::model::Model;

const LEASE_MS: u64 = 600_000;

/// Pauses after the first and the second attempt: one retry tier each.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Redis with one job and three runners.
struct Fixture {
    store: Store,
    redis: ConnectionManager,
    namespace: Namespace,
    app: AppId,
    spec: JobSpec,
    model: Model,
}

impl Fixture {
    fn new(testbed: &Testbed, redis: &ConnectionManager, app: &AppId, max_attempts: u32) -> Self {
        Self {
            store: testbed.store().clone(),
            redis: redis.clone(),
            namespace: testbed.namespace().clone(),
            app: app.clone(),
            spec: JobSpec {
                max_attempts,
                // Shorter than the life of message copies.
                retention_s: Some(60),
                start_timeout_ms: Some(600_000),
                owner: Some(KeyId::generate(&"somebody".parse().unwrap())),
                hint: Some("a model".parse().unwrap()),
                ..JobSpec::new(app.clone(), json!({}))
            },
            model: Model {
                max_attempts,
                job: None,
                ended: None,
            },
        }
    }

    /// Calls the script and applies the call to the model; returns whether both answer the same.
    async fn make(&mut self, call: Call) -> bool {
        match call {
            Call::Create => placement::create(self).await,
            Call::Withdraw => placement::withdraw(self).await,
            Call::Hold => placement::hold(self).await,
            Call::Claim(runner) => placement::claim(self, runner).await,
            Call::Share => placement::share(self).await,
            Call::Start { runner, ground } => attempts::start(self, runner, ground).await,
            Call::Renew { ours } => attempts::renew(self, ours).await,
            Call::Lapse => attempts::lapse(self).await,
            Call::Finish { ours, made } => attempts::finish(self, ours, made).await,
            Call::Requeue { ours, attempt } => attempts::requeue(self, ours, attempt).await,
            Call::Lose => attempts::lose(self).await,
            Call::Cancel => interventions::cancel(self).await,
            Call::Quarantine => interventions::quarantine(self).await,
            Call::Redrive => interventions::redrive(self).await,
            Call::Unpark => interventions::unpark(self).await,
            Call::Expire => interventions::expire(self).await,
            Call::Forget => interventions::forget(self).await,
            Call::LoseRecord => interventions::lose_record(self).await,
        }
    }

    /// Returns what a call takes, and what it changes.
    fn parts(&mut self) -> (&Store, &AppId, JobId, &mut Model) {
        (&self.store, &self.app, self.spec.id, &mut self.model)
    }

    fn key(&self, rest: &str) -> String {
        format!("{}:{{{}}}:{rest}", self.namespace, self.app)
    }

    /// Changes the record directly.
    async fn change(&mut self, command: &str, arguments: &[&str]) {
        let key = self.key(&format!("job:{}", self.spec.id));
        let exists: bool = self.redis.exists(&key).await.unwrap();
        if exists {
            let mut command = redis::cmd(command);
            let done = command.arg(key).arg(arguments);
            done.query_async::<()>(&mut self.redis).await.unwrap();
        }
    }

    /// Returns the record's state, attempt and fence, beside the model's.
    async fn compared(&self) -> [Option<(JobState, u32, u64)>; 2] {
        let record = self
            .store
            .jobs()
            .job_of(&self.app, self.spec.id)
            .await
            .unwrap();
        let found = record.map(|record| (record.state, record.attempt, record.fence.0));
        let job = self.model.job;
        [found, job.map(|job| (job.state, job.attempt, job.fence))]
    }

    /// Returns whether the job is listed by its state, and whether by another one.
    async fn listed_by_state(&self) -> [bool; 2] {
        let state = self.model.job.map(|job| job.state);
        let (own, others) = (JobState::ALL.into_iter()).partition(|one| Some(*one) == state);
        let listed = async |states: Vec<JobState>| {
            let filter = JobFilter {
                states,
                ..JobFilter::default()
            };
            state.is_some() && self.lists(filter).await
        };
        [listed(own).await, listed(others).await]
    }

    /// Returns whether the job is listed by its app, its hint and its owner.
    async fn listed_otherwise(&self) -> [bool; 3] {
        let JobSpec {
            app, hint, owner, ..
        } = self.spec.clone();
        let all = JobFilter::default;
        let by_app = self.lists(JobFilter {
            app: Some(app),
            ..all()
        });
        let by_hint = self.lists(JobFilter { hint, ..all() });
        let by_owner = self.lists(JobFilter { owner, ..all() });
        [by_app.await, by_hint.await, by_owner.await]
    }

    async fn lists(&self, filter: JobFilter) -> bool {
        let page = self.store.job_list().page(&filter, 10).await.unwrap();
        page.jobs.iter().any(|job| job.spec.id == self.spec.id)
    }

    /// Returns the counter of the owner's waiting or running jobs.
    async fn active(&self) -> u64 {
        let owner = self.spec.owner.as_ref().expect("it has one");
        self.store
            .active_jobs()
            .count([&self.app], owner)
            .await
            .unwrap()
    }
}

fn timeless(reason: Option<Unavailable>) -> Option<Unavailable> {
    reason.map(|reason| match reason {
        Unavailable::Leased { .. } => Unavailable::Leased { remaining_ms: 0 },
        Unavailable::Parked { .. } => Unavailable::Parked { remaining_ms: 0 },
        other => other,
    })
}

fn runner(number: usize) -> RunnerId {
    ["a", "b", "c"][number].parse().unwrap()
}

/// Makes the runner idle.
async fn join(store: &Store, app: &AppId, number: usize) -> RunnerId {
    let registration = registration(app, &runner(number));
    store
        .membership()
        .register(&registration, &Value::Bool(true), Duration::from_secs(600))
        .await
        .unwrap();
    registration.runner
}

#[test]
fn any_sequence_of_calls_leaves_the_record_as_in_the_table() {
    let runtime = Runtime::new().unwrap();
    let testbed = runtime.block_on(Testbed::builder().start()).unwrap();
    let app = AppId::parse("test/states").unwrap();
    let redis = redis::Client::open(testbed.redis_url().expose()).unwrap();
    let redis = runtime.block_on(redis.get_connection_manager()).unwrap();
    let config = Config {
        cases: 100,
        failure_persistence: None,
        ..Config::default()
    };
    let tested = TestRunner::new(config).run(&(1..4_u32, calls()), |(max_attempts, calls)| {
        runtime.block_on(async {
            let mut stand = Fixture::new(&testbed, &redis, &app, max_attempts);
            for (number, call) in calls.into_iter().enumerate() {
                let agreed = stand.make(call).await;
                prop_assert!(agreed, "call {number}, {call:?}: {:?}", stand.model);
                let [found, expected] = stand.compared().await;
                prop_assert_eq!(found, expected, "after call {}, {:?}", number, call);
                let (counted, active) = (stand.active().await, stand.model.active());
                prop_assert_eq!(counted, active, "jobs after call {}, {:?}", number, call);
                let exists = stand.model.job.is_some();
                let listed = stand.listed_by_state().await;
                prop_assert_eq!(
                    listed,
                    [exists, false],
                    "lists after call {}, {:?}",
                    number,
                    call
                );
            }
            let exists = stand.model.job.is_some();
            prop_assert_eq!(stand.listed_otherwise().await, [exists; 3]);
            Ok(())
        })
    });
    if let Err(TestError::Fail(reason, (max_attempts, calls))) = &tested {
        panic!("{reason}\nwith {max_attempts} attempts: {calls:#?}");
    }
    tested.unwrap();
    runtime.block_on(testbed.cleanup()).unwrap();
}
