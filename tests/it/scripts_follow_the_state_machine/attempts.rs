//! Calls of runners and of the watch over them: start, renew, finish, requeue, lose.

use serde_json::json;
use warmq_store::{
    Finish, Finished, Loss, RequeueCause, RunnerReport, Start, StartSource, Store, Unavailable,
};
use warmq_types::attempt::Outcome;
use warmq_types::ids::{AppId, Epoch, Fence, JobId};
use warmq_types::job::{JobError, Timings};
use warmq_types::state::Transition;

use super::{Fixture, LEASE_MS, PAUSES, join, runner, timeless};

pub(super) async fn start(fixture: &mut Fixture, runner: usize, ground: StartSource) -> bool {
    let (store, app, id, model) = fixture.parts();
    let why_not = model.unavailable();
    let name = join(store, app, runner).await;
    let start = store
        .attempts()
        .start(app, id, &name, Epoch(1), LEASE_MS, ground);
    let start = start.await.unwrap();
    // A running job does not wait any longer.
    let why_not = why_not.filter(|reason| match reason {
        Unavailable::Parked { .. } => !matches!(ground, StartSource::StartedDuringOutage { .. }),
        _ => true,
    });
    let is_its_own = model.runs() && model.job.and_then(|job| job.runner) == Some(runner);
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
        Start::Claimed | Start::Draining | Start::Stale => false,
        Start::Unavailable(reason) => timeless(Some(reason)) == why_not,
    }
}

pub(super) async fn renew(fixture: &mut Fixture, ours: bool) -> bool {
    let (store, app, id, model) = fixture.parts();
    let (fence, expected) = (model.fence(ours), ours && model.runs());
    let renewed = store
        .attempts()
        .renew(app, id, fence, LEASE_MS)
        .await
        .unwrap();
    if let Some(job) = model.job.as_mut().filter(|_| expected) {
        job.leased = true;
    }
    renewed == expected
}

pub(super) async fn lapse(fixture: &mut Fixture) -> bool {
    let (store, app, id, model) = fixture.parts();
    let (fence, expected) = (model.fence(true), model.runs());
    let lapsed = store.attempts().renew(app, id, fence, 0).await.unwrap();
    if let Some(job) = model.job.as_mut().filter(|_| expected) {
        job.leased = false;
    }
    lapsed == expected
}

pub(super) async fn finish(fixture: &mut Fixture, ours: bool, made: Transition) -> bool {
    let (store, app, id, model) = fixture.parts();
    let (fence, expected) = (model.fence(ours), ours && model.runs());
    let accepted = end(store, app, id, fence, made).await;
    if expected {
        model.apply(made);
    }
    accepted == expected
}

pub(super) async fn requeue(fixture: &mut Fixture, ours: bool, attempt: RequeueCause<'_>) -> bool {
    let (store, app, id, model) = fixture.parts();
    let (fence, expected) = (model.fence(ours), ours && model.runs());
    let requeued = store
        .attempts()
        .requeue(app, id, fence, attempt)
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

pub(super) async fn lose(fixture: &mut Fixture) -> bool {
    let (store, app, id, model) = fixture.parts();
    let why_not = model.unavailable();
    let lost = store.attempts().mark_lost(app, id).await.unwrap();
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

async fn end(store: &Store, app: &AppId, job: JobId, fence: Fence, made: Transition) -> bool {
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
