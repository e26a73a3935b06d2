//! The models of an idle runner: changes on request and by the engine itself, and their record in
//! Redis.

use std::time::Duration;

use tokio::time::Instant;
use warmq_types::fault::FaultKind;
use warmq_types::ids::{Epoch, RunnerId};
use warmq_types::runner::ModelChange;

use crate::engine::thread::EngineThread;
use crate::engine::{EngineState, RefusedChange};
use crate::fault::Fault;
use crate::incarnation::{self, Incarnation};
use crate::runner::{HEARTBEAT_TIMEOUT, IncarnationEnd, Runner};

/// Timeout for checking an idle runner's models: well below its lease.
const CHECK_TIMEOUT: Duration = Duration::from_secs(8);

/// Interval at which the models are recorded again: well below the time that they are kept.
const RECORD_INTERVAL: Duration = Duration::from_secs(3600);

/// Records the models of an engine that changed them between jobs. Returns the end of an
/// incarnation whose engine can run no jobs.
pub(crate) async fn take_state(
    runner: &mut Runner,
    incarnation: &Incarnation,
    state: EngineState,
) -> Option<IncarnationEnd> {
    if let Some(fault) = state.fault {
        return Some(IncarnationEnd::from_fault(fault));
    }
    let (recorded, report) = (&mut runner.recorded_hints, &runner.engine.report);
    if *recorded == report.hints {
        return None;
    }
    let (membership, app) = (
        runner.context.store.membership(),
        &runner.context.config.app,
    );
    let reported = membership.report(app, (&runner.id, incarnation.epoch), recorded, report);
    match tokio::time::timeout(HEARTBEAT_TIMEOUT, reported).await {
        Ok(Ok(true)) => recorded.clone_from(&report.hints),
        Ok(Ok(false)) => return Some(IncarnationEnd::Unregistered),
        // The next heartbeat finds the difference.
        Ok(Err(_)) | Err(_) => {
            tracing::warn!(runner = %runner.id, "redis did not record the runner's models");
        }
    }
    None
}

/// Executes the queued changes of an idle runner's models. It cannot be claimed meanwhile.
pub(crate) async fn change(
    runner: &mut Runner,
    incarnation: &mut Incarnation,
) -> Option<IncarnationEnd> {
    let (app, epoch) = (runner.context.config.app.clone(), incarnation.epoch);
    let store = runner.context.store.clone();
    let changes = store.model_changes();
    if let Err(lost) = incarnation.consumers.set_shared(false).await {
        return Some(IncarnationEnd::ConsumerLost(lost));
    }
    while !runner.context.stop.is_cancelled() {
        let change = match changes.begin(&app, &runner.id, epoch).await {
            Ok(Some(change)) => change,
            // What is pinned decides which others fit.
            Ok(None) => return changed_description(runner, incarnation),
            Err(error) => {
                tracing::warn!(runner = %runner.id, %error, "could not read a change of models");
                return None;
            }
        };
        tracing::info!(runner = %runner.id, ?change, "changing models on request");
        keep_lease_during(runner, change, epoch).await;
        if runner.engine.is_dead() {
            let fault = Fault::new(FaultKind::Engine, "the engine crashed");
            return Some(IncarnationEnd::from_fault(fault));
        }
        let (recorded, report) = (&mut runner.recorded_hints, &runner.engine.report);
        match changes.end(&app, &runner.id, epoch, recorded, report).await {
            Ok(true) => recorded.clone_from(&report.hints),
            Ok(false) => return Some(IncarnationEnd::Unregistered),
            Err(error) => {
                tracing::warn!(runner = %runner.id, %error, "could not report changed models");
                return Some(IncarnationEnd::Unregistered);
            }
        }
    }
    None
}

/// Changes the engine's models, and renews the lease meanwhile.
async fn keep_lease_during(runner: &mut Runner, change: ModelChange, epoch: Epoch) {
    let Runner {
        context,
        id,
        engine,
        ..
    } = runner;
    let intervals = context.intervals;
    let mut changed = std::pin::pin!(change_engine(engine, id, change));
    loop {
        match tokio::time::timeout(intervals.heartbeat, &mut changed).await {
            Ok(()) => return,
            Err(_) => {
                let membership = context.store.membership();
                let app = &context.config.app;
                let heartbeat = membership.heartbeat(app, id, epoch, intervals.lease, true);
                // A lost lease is noticed when the change is reported.
                if let Err(error) = heartbeat.await {
                    tracing::warn!(runner = %id, %error, "a heartbeat failed");
                }
            }
        }
    }
}

/// Changes the models that an engine has in memory, and logs what failed.
pub(crate) async fn change_engine(
    engine: &mut EngineThread,
    runner: &RunnerId,
    change: ModelChange,
) {
    match engine.change_models(change).await {
        Ok(refused) => {
            for RefusedChange { model, reason } in refused {
                tracing::warn!(%runner, model, reason, "a model was not changed as requested");
            }
        }
        // The next job or check finds the engine dead.
        Err(fault) => {
            tracing::error!(%runner, %fault, "the engine crashed while it changed models")
        }
    }
}

/// Checks an idle runner's catalog against the registered one.
pub(crate) async fn check(
    runner: &mut Runner,
    incarnation: &mut Incarnation,
) -> Option<IncarnationEnd> {
    match tokio::time::timeout(CHECK_TIMEOUT, runner.engine.check()).await {
        Ok(Ok(())) => {
            let end = changed_description(runner, incarnation);
            if end.is_none() {
                record_catalog(runner, incarnation).await;
            }
            end
        }
        Ok(Err(fault)) => Some(IncarnationEnd::from_fault(fault)),
        // The self-test decides whether it hangs.
        Err(_) => {
            let fault = Fault::new(FaultKind::Model, "the models do not respond");
            Some(IncarnationEnd::Faulty(fault))
        }
    }
}

/// Returns the end of an incarnation that registered another description.
fn changed_description(runner: &Runner, incarnation: &Incarnation) -> Option<IncarnationEnd> {
    let is_registered = runner.engine.description == incarnation.description;
    (!is_registered).then_some(IncarnationEnd::DescriptionChanged)
}

/// Records the catalog again from time to time: otherwise it would be forgotten.
async fn record_catalog(runner: &Runner, incarnation: &mut Incarnation) {
    if incarnation.models_recorded.elapsed() < RECORD_INTERVAL {
        return;
    }
    let models = incarnation::models(&incarnation.description);
    let (published, app) = (runner.context.store.published(), &runner.context.config.app);
    let recorded = published.remember_models(app, &models);
    if let Ok(Ok(())) = tokio::time::timeout(HEARTBEAT_TIMEOUT, recorded).await {
        incarnation.models_recorded = Instant::now();
    }
}
