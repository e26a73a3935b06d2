//! A flow advances only from its current version and never out of its end, for any sequence of
//! calls.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use serde_json::json;
use tokio::runtime::Runtime;
use warmq_store::{AdmissionRules, CancelOutcome, Created, FlowPlan, FlowState, FlowUpdate, Store};
use warmq_testkit::Testbed;
use warmq_types::attempt::Outcome;
use warmq_types::flow::Flow;
use warmq_types::ids::{AppId, JobId, KeyId};
use warmq_types::job::{JobError, JobSpec};
use warmq_types::route::RouteKind;
use warmq_types::state::JobState;

/// A call of a script. Two evaluators read the flow, and each advances from the version that it
/// read.
#[derive(Debug, Clone, Copy)]
enum Call {
    Create,
    Discard,
    Look { who: usize },
    Advance { who: usize, to: JobState },
    End { who: usize, state: JobState },
    Cancel,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    use JobState::*;
    let who = || 0..2_usize;
    let to = prop::sample::select(vec![Dispatched, Running]);
    let end = prop::sample::select(vec![Succeeded, Failed, Expired]);
    let call = prop_oneof![
        2 => Just(Call::Create),
        1 => Just(Call::Discard),
        8 => who().prop_map(|who| Call::Look { who }),
        8 => (who(), to).prop_map(|(who, to)| Call::Advance { who, to }),
        1 => (who(), end).prop_map(|(who, state)| Call::End { who, state }),
        1 => Just(Call::Cancel),
    ];
    prop::collection::vec(call, 1..60)
}

/// The expected flow.
#[derive(Debug, Clone, Copy)]
struct Model {
    state: JobState,
    version: u64,
    submissions: i64,
}

struct Fixture {
    store: Store,
    spec: JobSpec,
    plan: FlowPlan,
    model: Option<Model>,
    seen: [Option<FlowState>; 2],
}

impl Fixture {
    fn new(store: &Store, route: &AppId) -> Self {
        Self {
            store: store.clone(),
            spec: JobSpec {
                owner: Some(KeyId::generate(&"somebody".parse().unwrap())),
                webhook: Some("https://example.com/".to_owned()),
                ..JobSpec::new(route.clone(), json!({"n": 1}))
            },
            plan: FlowPlan {
                flow: Flow::new(RouteKind::Sequence, 2),
                excerpt: "[routes]".to_owned(),
                headers: BTreeMap::from([("x-plan".to_owned(), "pro".to_owned())]),
            },
            model: None,
            seen: [None, None],
        }
    }

    /// Returns whether an evaluator's version is current.
    fn may_advance(&self, who: usize) -> bool {
        let seen = self.seen[who].as_ref().map(|seen| seen.version);
        let model = self.model.filter(|model| !model.state.is_terminal());
        seen.is_some() && model.map(|model| model.version) == seen
    }

    /// Calls the script and applies the call to the model; returns whether both answer the same.
    async fn make(&mut self, call: Call) -> bool {
        let (store, route, id) = (self.store.clone(), self.spec.app.clone(), self.spec.id);
        match call {
            Call::Create => {
                let plan = Some(&self.plan);
                let terms = AdmissionRules {
                    plan,
                    ..AdmissionRules::default()
                };
                let created = store.jobs().admit(&self.spec, terms).await.unwrap();
                let is_new = self.model.is_none();
                let model = self.model.get_or_insert(Model {
                    state: JobState::Queued,
                    version: 0,
                    submissions: 0,
                });
                model.submissions += 1;
                matches!(created, Created::New { .. }) == is_new
            }
            Call::Discard => {
                let discarded = store.jobs().withdraw(&route, id).await.unwrap();
                let queued = |model: &&mut Model| model.state == JobState::Queued;
                let expected = self.model.as_mut().filter(queued).is_some_and(|model| {
                    model.submissions -= 1;
                    model.submissions <= 0
                });
                if expected {
                    self.model = None;
                }
                discarded == expected
            }
            Call::Look { who } => {
                self.seen[who] = store.flows().get(&route, id).await.unwrap();
                let seen = self.seen[who].as_ref();
                seen.map(|seen| seen.version) == self.model.map(|model| model.version)
            }
            Call::Advance { who, to } => {
                let may = self.may_advance(who);
                let Some(seen) = &self.seen[who] else {
                    return true;
                };
                let moved = store.flows().advance(seen, to, &[]).await.unwrap();
                if let Some(model) = self.model.as_mut().filter(|_| may) {
                    model.version += 1;
                    if model.state != JobState::Running {
                        model.state = to;
                    }
                }
                moved == FlowUpdate::from(may)
            }
            Call::End { who, state } => {
                let may = self.may_advance(who);
                let Some(seen) = &self.seen[who] else {
                    return true;
                };
                let outcome = match state {
                    JobState::Succeeded => Outcome::Succeeded(json!("made")),
                    _ => Outcome::Failed(JobError::timeout("too slow")),
                };
                let moved = store.flows().end(seen, state, &outcome, &[]).await.unwrap();
                if let Some(model) = self.model.as_mut().filter(|_| may) {
                    model.state = state;
                }
                moved == FlowUpdate::from(may)
            }
            Call::Cancel => {
                let cancelled = store.cancellation().cancel(&route, id).await.unwrap();
                let expected = match &mut self.model {
                    None => CancelOutcome::Missing,
                    Some(model) if model.state.is_terminal() => CancelOutcome::Ended(model.state),
                    Some(model) => {
                        model.state = JobState::Cancelled;
                        CancelOutcome::Cancelled
                    }
                };
                cancelled == expected
            }
        }
    }

    /// Returns the recorded and the expected state, remaining plan, outbox entry, jobs of the
    /// owner, and queue positions.
    async fn compared(&self) -> [(Option<JobState>, bool, bool, u64, Option<u64>); 2] {
        let (store, route, id) = (&self.store, &self.spec.app, self.spec.id);
        let owner = self.spec.owner.as_ref().unwrap();
        let found = store.flows().get(route, id).await.unwrap();
        let active = store.active_jobs().count([route], owner).await.unwrap();
        let found = (
            found.as_ref().map(|flow| flow.record.state),
            found.is_some_and(|flow| !flow.excerpt.is_empty() && !flow.headers.is_empty()),
            store.flows().is_in_outbox(route, id).await.unwrap(),
            active,
            store.jobs().queue_position(route, id).await.unwrap(),
        );
        let state = self.model.map(|model| model.state);
        let goes_on = state.is_some_and(|state| !state.is_terminal());
        let expected = (
            state,
            goes_on,
            state.is_some_and(JobState::is_terminal),
            u64::from(goes_on),
            (state == Some(JobState::Queued)).then_some(0),
        );
        [found, expected]
    }
}

#[test]
fn any_sequence_of_calls_advances_a_flow_once_per_version() {
    let runtime = Runtime::new().unwrap();
    let testbed = runtime.block_on(Testbed::builder().start()).unwrap();
    let config = Config {
        cases: 100,
        failure_persistence: None,
        ..Config::default()
    };
    let tested = TestRunner::new(config).run(&calls(), |calls| {
        runtime.block_on(async {
            // A route of its own, since counters are per route.
            let tail = JobId::generate().to_string();
            let route = AppId::parse(&format!("test/{tail}")).unwrap();
            let mut stand = Fixture::new(testbed.store(), &route);
            for (number, call) in calls.into_iter().enumerate() {
                let agreed = stand.make(call).await;
                prop_assert!(agreed, "call {number}, {call:?}: {:?}", stand.model);
                let [found, expected] = stand.compared().await;
                prop_assert_eq!(found, expected, "after call {}, {:?}", number, call);
            }
            Ok(())
        })
    });
    if let Err(TestError::Fail(reason, calls)) = &tested {
        panic!("{reason}\n{calls:#?}");
    }
    tested.unwrap();
    runtime.block_on(testbed.cleanup()).unwrap();
}
