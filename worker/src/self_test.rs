//! The self-test of a runner: engine, device, models, storage.

use std::time::Duration;

use warmq_types::fault::FaultKind;
use warmq_types::ids::Epoch;

use crate::context::WorkerContext;
use crate::fault::Fault;
use crate::runner::{Runner, start_engine};

/// Timeout for probing the storage.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Initial size of a probe, bytes. It grows to the size of a file that could not be stored: a full
/// disk may accept small files only.
pub(crate) const PROBE_BYTES: usize = 256 << 10;

/// Timeout for publishing a fault, which is best effort.
const PUBLISH_FAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the self-test. Replaces a dead engine first.
///
/// # Errors
/// The first check that fails.
pub(crate) async fn self_test(runner: &mut Runner) -> Result<(), Fault> {
    let timeout = runner.context.config.hang_grace;
    let hangs = |_| {
        let message = "the engine does not respond to its self-test";
        Fault::new(FaultKind::Hang, message)
    };
    if runner.engine.is_dead() {
        let started = start_engine(&runner.context, &runner.id);
        let started = tokio::time::timeout(timeout, started).await;
        runner.engine = started.map_err(hangs)?.map_err(|error| {
            Fault::new(FaultKind::Engine, "the engine cannot be started").because(error)
        })?;
    }
    let checked = tokio::time::timeout(timeout, runner.engine.check()).await;
    checked.map_err(hangs)??;
    runner.engine.refresh();
    test_storage(runner).await
}

/// Logs and publishes a fault, then runs the self-test. Returns the fault that remains, if any.
pub(crate) async fn diagnose(runner: &mut Runner, epoch: Epoch, fault: &Fault) -> Option<Fault> {
    tracing::warn!(runner = %runner.id, %fault, "attempt failed: runner fault");
    let (store, app) = (&runner.context.store, &runner.context.config.app);
    let published = (store.faults()).publish(app, &runner.id, epoch, fault.kind);
    let published = tokio::time::timeout(PUBLISH_FAULT_TIMEOUT, published).await;
    if !matches!(published, Ok(Ok(()))) {
        tracing::debug!(runner = %runner.id, "a fault could not be published");
    }
    match fault.is_unrecoverable() {
        true => Some(fault.clone()),
        false => self_test(runner).await.err(),
    }
}

async fn test_storage(runner: &Runner) -> Result<(), Fault> {
    let WorkerContext {
        storage, config, ..
    } = &runner.context;
    let refused = || Fault::new(FaultKind::Storage, "the storage cannot be written and read");
    let probe = storage.probe(&config.app, runner.id.as_str(), runner.probe_bytes);
    match tokio::time::timeout(PROBE_TIMEOUT, probe).await {
        Ok(probed) => probed.map_err(|error| refused().because(error)),
        Err(_) => {
            let reason = format!("no response within {} s", PROBE_TIMEOUT.as_secs());
            Err(refused().because(reason))
        }
    }
}
