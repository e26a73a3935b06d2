//! Executes a plan: injects each target's faults one after the other, and supervises the target in
//! between.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fault_log::FaultLog;
use super::ledger::Ledger;
use super::plan::{Fault, Harm, Role};
use super::target::Target;

/// Interval of checks for a process that ended by itself.
const SUPERVISE_INTERVAL: Duration = Duration::from_millis(250);

/// Interval of checks for a long job on a worker.
const BUSY_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long a worker's fault waits for a long job.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);

/// Injects `faults` into `target`, at their times after `begun`, and sends each to `healed` once it
/// is over. Then supervises the target until `stop`, and returns it.
///
/// # Errors
/// It could not be harmed, or did not come back.
pub async fn inject(
    mut target: Target,
    faults: Vec<Fault>,
    begun: Instant,
    healed: mpsc::Sender<Fault>,
    ledger: &Ledger,
    log: &FaultLog,
    stop: &CancellationToken,
) -> anyhow::Result<Target> {
    for fault in faults {
        let its_time = tokio::time::sleep_until(begun + fault.at);
        supervise(&mut target, its_time, log).await?;
        if fault.victim.role == Role::Worker {
            wait_for_long_job(&target, ledger).await;
        }
        let (kind, victim, duration) = (fault.kind(), fault.victim, fault.duration.as_millis());
        log.append(&format!("{victim}: {kind}, for {duration} ms"));
        inject_one(&mut target, &fault).await?;
        log.append(&format!("{victim}: healed"));
        // The receiver may have ended.
        let _ = healed.send(fault).await;
    }
    drop(healed);
    supervise(&mut target, stop.cancelled(), log).await?;
    Ok(target)
}

/// Waits for a long job, since a fault in mid-job finds more; the fault comes in any case.
async fn wait_for_long_job(worker: &Target, ledger: &Ledger) {
    let busy = async {
        while !worker.job().await.is_some_and(|id| ledger.is_long(id)) {
            tokio::time::sleep(BUSY_POLL_INTERVAL).await;
        }
    };
    let _ = tokio::time::timeout(BUSY_TIMEOUT, busy).await;
}

/// Injects a fault and heals it.
async fn inject_one(target: &mut Target, fault: &Fault) -> anyhow::Result<()> {
    let over = tokio::time::sleep(fault.duration);
    match fault.harm {
        Harm::Kill => {
            target.process().kill9().await?;
            over.await;
            target.start_again().await?;
        }
        Harm::Freeze => {
            target.process().freeze()?;
            over.await;
            target.process().resume()?;
        }
        Harm::Restart => {
            target.stop().await?;
            target.start_again().await?;
        }
        Harm::CutFromRedis | Harm::CutFromRabbitMq => {
            let link = match fault.harm {
                Harm::CutFromRedis => target.link_to_redis(),
                _ => target.link_to_rabbitmq(),
            };
            if let Some(link) = link {
                link.shut();
                over.await;
                link.reopen();
            }
        }
    }
    Ok(())
}

/// Restarts the process whenever it ends by itself, until `end`.
async fn supervise(
    target: &mut Target,
    end: impl Future<Output = ()>,
    log: &FaultLog,
) -> anyhow::Result<()> {
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            biased;
            () = &mut end => return Ok(()),
            () = tokio::time::sleep(SUPERVISE_INTERVAL) => {}
        }
        if let Some(status) = target.process().ended() {
            let victim = target.victim;
            log.append(&format!("{victim}: ended by itself ({status})"));
            target.start_again().await?;
            log.append(&format!("{victim}: started again"));
        }
    }
}
