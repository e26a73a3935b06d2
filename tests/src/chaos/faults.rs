//! Carries a plan out: each victim suffers its faults one after the other, and is watched over in between.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::diary::Diary;
use super::ledger::Ledger;
use super::plan::{Fault, Harm, Role};
use super::subject::Subject;

/// How soon a process that ended by itself is started again.
const WATCH: Duration = Duration::from_millis(250);

/// How often is looked whether a worker has a long job.
const AIM: Duration = Duration::from_millis(10);

/// How long a worker's fault waits for that.
const AIMING: Duration = Duration::from_secs(4);

/// Does to `subject` what its `faults` say, counted from `begun`, and tells `healed` of each one as it is over. Then
/// watches over it until `stop`, and gives it back.
///
/// # Errors
/// It could not be harmed, or did not come back.
pub async fn inflict(
    mut subject: Subject,
    faults: Vec<Fault>,
    begun: Instant,
    healed: mpsc::Sender<Fault>,
    ledger: &Ledger,
    diary: &Diary,
    stop: &CancellationToken,
) -> anyhow::Result<Subject> {
    for fault in faults {
        let its_time = tokio::time::sleep_until(begun + fault.at);
        watch_over(&mut subject, its_time, diary).await?;
        if fault.victim.role == Role::Worker {
            await_a_long_job(&subject, ledger).await;
        }
        let (kind, victim, lasts) = (fault.kind(), fault.victim, fault.lasts.as_millis());
        diary.append_log(&format!("{victim}: {kind}, for {lasts} ms"));
        suffer(&mut subject, &fault).await?;
        diary.append_log(&format!("{victim}: healed"));
        // Nobody measures any more.
        let _ = healed.send(fault).await;
    }
    drop(healed);
    watch_over(&mut subject, stop.cancelled(), diary).await?;
    Ok(subject)
}

/// A fault in the middle of a job tells more; but it comes in any case.
async fn await_a_long_job(worker: &Subject, ledger: &Ledger) {
    let busy = async {
        while !worker.job().await.is_some_and(|id| ledger.is_long(id)) {
            tokio::time::sleep(AIM).await;
        }
    };
    let _ = tokio::time::timeout(AIMING, busy).await;
}

/// One fault, until it is healed.
async fn suffer(subject: &mut Subject, fault: &Fault) -> anyhow::Result<()> {
    let over = tokio::time::sleep(fault.lasts);
    match fault.harm {
        Harm::Kill => {
            subject.process().kill9().await?;
            over.await;
            subject.start_again().await?;
        }
        Harm::Freeze => {
            subject.process().freeze()?;
            over.await;
            subject.process().resume()?;
        }
        Harm::Restart => {
            subject.stop().await?;
            subject.start_again().await?;
        }
        Harm::CutFromRedis | Harm::CutFromRabbitMq => {
            let link = match fault.harm {
                Harm::CutFromRedis => subject.link_to_redis(),
                _ => subject.link_to_rabbitmq(),
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

/// Starts the process again whenever it ends by itself, until `end`.
async fn watch_over(
    subject: &mut Subject,
    end: impl Future<Output = ()>,
    diary: &Diary,
) -> anyhow::Result<()> {
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            biased;
            () = &mut end => return Ok(()),
            () = tokio::time::sleep(WATCH) => {}
        }
        if let Some(status) = subject.process().ended() {
            let victim = subject.victim;
            diary.append_log(&format!("{victim}: ended by itself ({status})"));
            subject.start_again().await?;
            diary.append_log(&format!("{victim}: started again"));
        }
    }
}
