//! The Lua scripts follow the table of states: any sequence of calls leaves the record in the state
//! of the table.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use warmq_store::{
    CancelOutcome, Claim, Created, Finish, Finished, JobFilter, Loss, RequeueCause, RunnerReport,
    Start, StartSource, Store, Unavailable,
};
use warmq_testkit::{Testbed, decision, registration};
use warmq_types::attempt::Outcome;
use warmq_types::ids::{AppId, Epoch, Fence, JobId, KeyId, Namespace, RunnerId};
use warmq_types::job::{Hold, JobError, JobSpec, Timings};
use warmq_types::state::{JobState, Transition};

const LEASE_MS: u64 = 600_000;

/// Pauses after the first and the second attempt: one retry tier each.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// A call of a script. `ours`: with the fence of the latest attempt, else with another.
#[derive(Debug, Clone, Copy)]
enum Call {
    Create,
    Discard,
    Hold,
    Claim(usize),
    Share,
    Start {
        runner: usize,
        ground: StartSource,
    },
    Renew {
        ours: bool,
    },
    /// The lease lapses without renewal.
    Lapse,
    Finish {
        ours: bool,
        made: Transition,
    },
    Requeue {
        ours: bool,
        attempt: RequeueCause<'static>,
    },
    Lose,
    /// The pause before the next attempt passes.
    Unpark,
    Cancel,
    /// The start deadline passes.
    Expire,
    Quarantine,
    Revive,
    /// The retention ends.
    Forget,
    /// Redis loses the record.
    LoseRecord,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    // The latest attempt calls more often than an older one.
    let ours = || prop::bool::weighted(0.75);
    let runner = || 0..3_usize;
    let end = prop::sample::select(vec![
        Transition::Succeed,
        Transition::Fail,
        Transition::Cancel,
    ]);
    let ground = prop::sample::select(vec![
        StartSource::Claim,
        StartSource::SharedQueue,
        StartSource::StartedDuringOutage { ago_ms: 1000 },
    ]);
    let given_back = prop::sample::select(vec![
        RequeueCause::Uncounted,
        RequeueCause::Counted {
            reason: "too long",
            fault: None,
        },
    ]);
    let call = prop_oneof![
        2 => Just(Call::Create),
        1 => Just(Call::Discard),
        1 => Just(Call::Hold),
        3 => runner().prop_map(Call::Claim),
        2 => Just(Call::Share),
        6 => (runner(), ground).prop_map(|(runner, ground)| Call::Start { runner, ground }),
        2 => ours().prop_map(|ours| Call::Renew { ours }),
        4 => Just(Call::Lapse),
        1 => (ours(), end).prop_map(|(ours, made)| Call::Finish { ours, made }),
        1 => (ours(), given_back).prop_map(|(ours, attempt)| Call::Requeue { ours, attempt }),
        4 => Just(Call::Lose),
        4 => Just(Call::Unpark),
        1 => Just(Call::Cancel),
        1 => Just(Call::Expire),
        3 => Just(Call::Quarantine),
        2 => Just(Call::Revive),
        2 => Just(Call::Forget),
        1 => Just(Call::LoseRecord),
    ];
    prop::collection::vec(call, 1..60)
}

/// The expected job: the table and its guards.
#[derive(Debug)]
struct Model {
    max_attempts: u32,
    job: Option<Job>,
    /// The previous end, once the record is gone.
    ended: Option<Ended>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    TakenBack,
    Kept,
}

#[derive(Debug, Clone, Copy)]
struct Job {
    state: JobState,
    attempt: u32,
    fence: u64,
    leased: bool,
    /// The runner, while the job runs.
    runner: Option<usize>,
    quarantined: bool,
    /// The next attempt is not due.
    parked: bool,
    /// Submissions that did not fail.
    submissions: i64,
}

impl Model {
    /// Applies a transition that the table must allow.
    fn apply(&mut self, made: Transition) -> &mut Job {
        let job = self.job.as_mut().expect("there is a job");
        job.state = job
            .state
            .after(made)
            .expect("a script made an illegal move");
        job
    }

    /// Returns why the job cannot be sent or started, without times.
    fn unavailable(&self) -> Option<Unavailable> {
        let Some(job) = self.job else {
            return Some(match self.ended {
                Some(_) => Unavailable::Gone,
                None => Unavailable::Missing,
            });
        };
        match job.state {
            state if state.is_terminal() => Some(Unavailable::Terminal(state)),
            JobState::Running if job.leased => Some(Unavailable::Leased { remaining_ms: 0 }),
            JobState::Running => Some(Unavailable::Lost),
            _ if job.attempt >= self.max_attempts => Some(Unavailable::Spent),
            _ if job.parked => Some(Unavailable::Parked { remaining_ms: 0 }),
            _ => None,
        }
    }

    /// Returns how many waiting or running jobs the owner has.
    fn active(&self) -> u64 {
        let ended = |job: Job| job.state.is_terminal();
        u64::from(self.job.is_some_and(|job| !ended(job)))
    }

    fn runs(&self) -> bool {
        self.job.is_some_and(|job| job.state == JobState::Running)
    }

    /// Returns the fence that a caller passes.
    fn fence(&self, ours: bool) -> Fence {
        let latest = self.job.map_or(0, |job| job.fence);
        Fence(if ours { latest } else { latest + 7 })
    }
}

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
        let (store, app, id) = (self.store.clone(), self.app.clone(), self.spec.id);
        let model = &mut self.model;
        let why_not = model.unavailable();
        match call {
            Call::Create => {
                let created = store.jobs().create(&self.spec).await.unwrap();
                let is_new = matches!(created, Created::New { .. });
                if model.job.is_none() && model.ended == Some(Ended::Kept) {
                    return created == Created::Ended;
                }
                let expected = model.job.is_none();
                model.ended = None;
                model.job.get_or_insert(Job {
                    state: JobState::Queued,
                    attempt: 0,
                    fence: 0,
                    leased: false,
                    runner: None,
                    quarantined: false,
                    parked: false,
                    submissions: 0,
                });
                model.job.iter_mut().for_each(|job| job.submissions += 1);
                is_new == expected
            }
            Call::Discard => {
                let discarded = store.jobs().withdraw(&app, id).await.unwrap();
                let queued = |job: &&mut Job| job.state == JobState::Queued;
                let expected = model.job.as_mut().filter(queued).is_some_and(|job| {
                    job.submissions -= 1;
                    job.submissions <= 0
                });
                if expected {
                    (model.job, model.ended) = (None, Some(Ended::TakenBack));
                }
                discarded == expected
            }
            Call::Hold => {
                let refused = store.placement().hold(&app, id, &hold()).await.unwrap();
                timeless(refused) == why_not
            }
            Call::Claim(runner) => {
                let runner = join(&store, &app, runner).await;
                let claim = store
                    .placement()
                    .claim(&app, id, &runner, 1, &decision(&runner))
                    .await;
                if why_not.is_none() {
                    model.apply(Transition::Dispatch);
                }
                match claim.unwrap() {
                    Claim::Won(_) => why_not.is_none(),
                    Claim::Refused => false,
                    Claim::Unavailable(reason) => timeless(Some(reason)) == why_not,
                }
            }
            Call::Share => {
                let runner = runner(0);
                let refused = store
                    .placement()
                    .move_to_shared(&app, id, &decision(&runner))
                    .await
                    .unwrap();
                if why_not.is_none() {
                    model.apply(Transition::Dispatch);
                }
                timeless(refused) == why_not
            }
            Call::Start { runner, ground } => {
                let name = join(&store, &app, runner).await;
                let start = store
                    .attempts()
                    .start(&app, id, &name, Epoch(1), LEASE_MS, ground);
                let start = start.await.unwrap();
                // A running job does not wait any longer.
                let why_not = why_not.filter(|reason| match reason {
                    Unavailable::Parked { .. } => {
                        !matches!(ground, StartSource::StartedDuringOutage { .. })
                    }
                    _ => true,
                });
                let is_its_own =
                    model.runs() && model.job.and_then(|job| job.runner) == Some(runner);
                if why_not.is_none() {
                    let job = model.apply(Transition::Start);
                    (job.attempt, job.fence) = (job.attempt + 1, job.fence + 1);
                    (job.leased, job.runner, job.parked) = (true, Some(runner), false);
                } else if let Some(job) = model.job.as_mut().filter(|_| is_its_own) {
                    job.leased = true;
                }
                match start {
                    Start::Started(lease) => {
                        let job = model.job.expect("it was started");
                        (why_not.is_none() || is_its_own)
                            && (lease.attempt, lease.fence) == (job.attempt, Fence(job.fence))
                    }
                    Start::Claimed | Start::Stale => false,
                    Start::Unavailable(reason) => timeless(Some(reason)) == why_not,
                }
            }
            Call::Renew { ours } => {
                let (fence, expected) = (model.fence(ours), ours && model.runs());
                let renewed = store
                    .attempts()
                    .renew(&app, id, fence, LEASE_MS)
                    .await
                    .unwrap();
                if let Some(job) = model.job.as_mut().filter(|_| expected) {
                    job.leased = true;
                }
                renewed == expected
            }
            Call::Lapse => {
                let (fence, expected) = (model.fence(true), model.runs());
                let lapsed = store.attempts().renew(&app, id, fence, 0).await.unwrap();
                if let Some(job) = model.job.as_mut().filter(|_| expected) {
                    job.leased = false;
                }
                lapsed == expected
            }
            Call::Finish { ours, made } => {
                let (fence, expected) = (model.fence(ours), ours && model.runs());
                let accepted = finish(&store, &app, id, fence, made).await;
                if expected {
                    model.apply(made);
                }
                accepted == expected
            }
            Call::Requeue { ours, attempt } => {
                let (fence, expected) = (model.fence(ours), ours && model.runs());
                let requeued = store
                    .attempts()
                    .requeue(&app, id, fence, attempt)
                    .await
                    .unwrap();
                if expected {
                    let most = model.max_attempts;
                    let job = model.apply(Transition::Requeue);
                    match attempt {
                        RequeueCause::Uncounted => job.attempt -= 1,
                        RequeueCause::Counted { .. } => job.parked = job.attempt < most,
                    }
                }
                requeued == expected
            }
            Call::Lose => {
                let lost = store.attempts().mark_lost(&app, id).await.unwrap();
                let most = model.max_attempts;
                let expected = (why_not == Some(Unavailable::Lost)).then(|| {
                    let job = model.apply(Transition::Requeue);
                    job.parked = job.attempt < most;
                    Loss {
                        attempt: job.attempt,
                        pause: job.parked.then(|| PAUSES[job.attempt as usize - 1]),
                        runner: runner(job.runner.expect("it has a runner")),
                    }
                });
                lost == expected
            }
            Call::Cancel => {
                let cancelled = store.cancellation().cancel(&app, id).await.unwrap();
                let expected = match why_not {
                    Some(Unavailable::Missing | Unavailable::Gone) => CancelOutcome::Missing,
                    Some(Unavailable::Terminal(state)) => CancelOutcome::Ended(state),
                    _ => {
                        model.apply(Transition::Cancel);
                        CancelOutcome::Cancelled
                    }
                };
                cancelled == expected
            }
            Call::Quarantine => {
                let error = JobError::quarantined(1, &[]);
                let ended = store.attempts().quarantine(&app, id, &error).await.unwrap();
                let expected = why_not == Some(Unavailable::Spent);
                if expected {
                    model.apply(Transition::Fail).quarantined = true;
                }
                ended == expected
            }
            Call::Revive => {
                let revived = store.attempts().redrive(&app, id).await.unwrap();
                let expected = model.job.is_some_and(|job| job.quarantined);
                if expected {
                    let job = model.apply(Transition::Redrive);
                    (job.attempt, job.quarantined, job.parked) = (0, false, false);
                }
                revived == expected
            }
            Call::Unpark => {
                self.change("HDEL", &["parked_until"]).await;
                (self.model.job.iter_mut()).for_each(|job| job.parked = false);
                true
            }
            Call::Expire => {
                if model.job.is_none() {
                    return true;
                }
                self.change("HSET", &["start_by_ms", "1"]).await;
                let _: () = self
                    .redis
                    .zadd(self.key("start_deadlines"), id.to_string(), 1)
                    .await
                    .unwrap();
                let expired = store.deadlines().expire(&app).await.unwrap();
                let waits = self.model.job.is_some_and(|job| job.state.is_waiting());
                if waits {
                    self.model.apply(Transition::Expire);
                }
                // It may be redriven or run again, with a new deadline.
                self.change("HSET", &["start_by_ms", "99999999999999"])
                    .await;
                expired.iter().map(|job| job.id).eq(waits.then_some(id))
            }
            Call::Forget => {
                if self.model.job.is_some_and(|job| job.state.is_terminal()) {
                    self.change("DEL", &[]).await;
                    (self.model.job, self.model.ended) = (None, Some(Ended::Kept));
                }
                true
            }
            Call::LoseRecord => {
                // With all other keys.
                for what in ["", ":tombstone"] {
                    let key = self.key(&format!("job:{id}{what}"));
                    let _: () = self.redis.del(key).await.unwrap();
                }
                if let Some(owner) = &self.spec.owner {
                    store.active_jobs().forget_lost(&app, owner).await.unwrap();
                }
                (self.model.job, self.model.ended) = (None, None);
                true
            }
        }
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
        .fleet()
        .register(&registration, &Value::Bool(true), Duration::from_secs(600))
        .await
        .unwrap();
    registration.runner
}

async fn finish(store: &Store, app: &AppId, job: JobId, fence: Fence, made: Transition) -> bool {
    let outcome = match made {
        Transition::Succeed => Outcome::Succeeded(json!("done")),
        Transition::Fail => Outcome::Failed(JobError::internal("internal_error", "no luck")),
        _ => Outcome::Cancelled,
    };
    let finish = Finish {
        app,
        job,
        runner: &runner(0),
        epoch: Epoch(1),
        fence,
        outcome: &outcome,
        timings: Timings::default(),
        reported: &[],
        report: &RunnerReport::default(),
        ran: None,
        idle: true,
    };
    store.attempts().finish(&finish).await.unwrap() != Finished::Refused
}

fn hold() -> Hold {
    Hold {
        since_ms: 1,
        until_ms: 2,
        bounded: false,
        predicted_wait_ms: None,
        holders: 0,
        idle_runners: 0,
        reason: "chosen by a test".to_owned(),
    }
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
