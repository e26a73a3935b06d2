//! What users, operators, time and Redis do to a job: cancel, quarantine, redrive, deadlines, loss.

use redis::AsyncCommands;
use warmq_store::{CancelOutcome, Unavailable};
use warmq_types::job::JobError;
use warmq_types::state::Transition;

use super::Fixture;
use super::model::Ended;

pub(super) async fn cancel(fixture: &mut Fixture) -> bool {
    let (store, app, id, model) = fixture.parts();
    let why_not = model.unavailable();
    let cancelled = store.cancellation().cancel(app, id).await.unwrap();
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

pub(super) async fn quarantine(fixture: &mut Fixture) -> bool {
    let (store, app, id, model) = fixture.parts();
    let why_not = model.unavailable();
    let error = JobError::quarantined(1, &[]);
    let ended = store.attempts().quarantine(app, id, &error).await.unwrap();
    let expected = why_not == Some(Unavailable::Spent);
    if expected {
        model.apply(Transition::Fail).quarantined = true;
    }
    ended == expected
}

pub(super) async fn redrive(fixture: &mut Fixture) -> bool {
    let (store, app, id, model) = fixture.parts();
    let redriven = store.attempts().redrive(app, id).await.unwrap();
    let expected = model.job.is_some_and(|job| job.quarantined);
    if expected {
        let job = model.apply(Transition::Redrive);
        (job.attempt, job.quarantined, job.parked) = (0, false, false);
    }
    redriven == expected
}

pub(super) async fn unpark(fixture: &mut Fixture) -> bool {
    fixture.change("HDEL", &["parked_until"]).await;
    (fixture.model.job.iter_mut()).for_each(|job| job.parked = false);
    true
}

pub(super) async fn expire(fixture: &mut Fixture) -> bool {
    if fixture.model.job.is_none() {
        return true;
    }
    fixture.change("HSET", &["start_by_ms", "1"]).await;
    let (id, deadlines) = (fixture.spec.id, fixture.key("start_deadlines"));
    let added = fixture.redis.zadd(deadlines, id.to_string(), 1).await;
    let () = added.unwrap();
    let (store, app, _, _) = fixture.parts();
    let expired = store.deadlines().expire(app).await.unwrap();
    let waits = fixture.model.job.is_some_and(|job| job.state.is_waiting());
    if waits {
        fixture.model.apply(Transition::Expire);
    }
    // It may be redriven or run again, with a new deadline.
    fixture
        .change("HSET", &["start_by_ms", "99999999999999"])
        .await;
    expired.iter().map(|job| job.id).eq(waits.then_some(id))
}

pub(super) async fn forget(fixture: &mut Fixture) -> bool {
    if fixture.model.job.is_some_and(|job| job.state.is_terminal()) {
        fixture.change("DEL", &[]).await;
        (fixture.model.job, fixture.model.ended) = (None, Some(Ended::Kept));
    }
    true
}

pub(super) async fn lose_record(fixture: &mut Fixture) -> bool {
    // With all other keys.
    for what in ["", ":tombstone"] {
        let key = fixture.key(&format!("job:{}{what}", fixture.spec.id));
        let _: () = fixture.redis.del(key).await.unwrap();
    }
    if let Some(owner) = fixture.spec.owner.clone() {
        let (store, app, _, _) = fixture.parts();
        store.active_jobs().forget_lost(app, &owner).await.unwrap();
    }
    (fixture.model.job, fixture.model.ended) = (None, None);
    true
}
