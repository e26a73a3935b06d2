//! Calls of the API and the dispatcher: create, withdraw, hold, claim, share.

use warmq_store::{Claim, Created};
use warmq_testkit::decision;
use warmq_types::job::Hold;
use warmq_types::state::{JobState, Transition};

use super::model::{Ended, Job};
use super::{Fixture, join, runner, timeless};

pub(super) async fn create(fixture: &mut Fixture) -> bool {
    let spec = fixture.spec.clone();
    let (store, _, _, model) = fixture.parts();
    let created = store.jobs().create(&spec).await.unwrap();
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

pub(super) async fn withdraw(fixture: &mut Fixture) -> bool {
    let (store, app, id, model) = fixture.parts();
    let withdrawn = store.jobs().withdraw(app, id).await.unwrap();
    let queued = |job: &&mut Job| job.state == JobState::Queued;
    let expected = model.job.as_mut().filter(queued).is_some_and(|job| {
        job.submissions -= 1;
        job.submissions <= 0
    });
    if expected {
        (model.job, model.ended) = (None, Some(Ended::TakenBack));
    }
    withdrawn == expected
}

pub(super) async fn hold(fixture: &mut Fixture) -> bool {
    let (store, app, id, model) = fixture.parts();
    let why_not = model.unavailable();
    let refused = store.placement().hold(app, id, &a_hold()).await.unwrap();
    timeless(refused) == why_not
}

pub(super) async fn claim(fixture: &mut Fixture, runner: usize) -> bool {
    let (store, app, id, model) = fixture.parts();
    let why_not = model.unavailable();
    let runner = join(store, app, runner).await;
    let claim = store
        .placement()
        .claim(app, id, &runner, 1, &decision(&runner))
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

pub(super) async fn share(fixture: &mut Fixture) -> bool {
    let (store, app, id, model) = fixture.parts();
    let why_not = model.unavailable();
    let runner = runner(0);
    let refused = store
        .placement()
        .move_to_shared(app, id, &decision(&runner))
        .await
        .unwrap();
    if why_not.is_none() {
        model.apply(Transition::Dispatch);
    }
    timeless(refused) == why_not
}

fn a_hold() -> Hold {
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
