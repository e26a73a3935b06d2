//! One run: the arena, the users, the faults, the settling, the reckoning.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warmq_testkit::{Cluster, eventually};
use warmq_types::ids::JobId;
use warmq_types::job::JobRecord;

use super::accountant::{Finding, QUARANTINED, Verdict};
use super::arena::Arena;
use super::diary::Diary;
use super::faults::inflict;
use super::ledger::{Account, End, Ledger, Witness};
use super::patience::persist;
use super::plan::{Plan, Scale};
use super::progress::Progress;
use super::recovery::Recovery;
use super::users::Users;
use super::{observer, orders, recovery};

/// How long events and replies may come after the last job ended.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// How long after its time a job may be submitted at the latest.
const SUBMITTING: Duration = Duration::from_secs(300);

/// How long reading all records and results may take.
const RECKONING: Duration = Duration::from_secs(60);

/// Questions at once when all is over.
const QUESTIONS: usize = 16;

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What went wrong.
    pub plan: Plan,
    /// How the jobs fared.
    pub verdict: Verdict,
    /// What came after each fault.
    pub recoveries: Vec<Recovery>,
    /// From the last fault's healing until every job had ended, or until no longer was waited.
    pub settled: Duration,
    /// All of it, the start of the servers too.
    pub took: Duration,
}

/// Runs what `seed` says; all logs, and the servers' data, are in `folder` afterwards.
///
/// # Errors
/// A program is missing, or one did not come back after a fault. A bad verdict is no error.
pub async fn run(
    seed: u64,
    scale: Scale,
    folder: &Path,
    progress: Progress,
) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let plan = Plan::draw(seed, scale);
    let orders = orders::draw(seed, scale);
    let Arena {
        cluster,
        routers,
        subjects,
    } = Arena::open(folder, plan.queue_type).await?;
    observer::declare(cluster.amqp_url(), cluster.topology()).await?;

    let stop = CancellationToken::new();
    let ledger = Ledger::of(&orders);
    let exchange = cluster.topology().jobs_exchange();
    let users = Users::new(
        &routers,
        cluster.amqp_url().clone(),
        exchange,
        ledger.clone(),
    )?;
    let mut watchers = JoinSet::new();
    watchers.spawn(progress.follow(ledger.clone(), stop.clone()));
    watchers.spawn(observer::ask(users.clone(), ledger.clone(), stop.clone()));
    let amqp_url = cluster.amqp_url().clone();
    watchers.spawn(observer::listen(amqp_url, ledger.clone(), stop.clone()));

    let begun = Instant::now();
    let diary = Diary::begin(&folder.join("faults.log")).context("faults.log")?;
    let (tell, healed) = mpsc::channel(plan.faults.len().max(1));
    let suffering = try_join_all(subjects.into_iter().map(|subject| {
        let faults = plan.of(subject.victim);
        inflict(subject, faults, begun, tell.clone(), &ledger, &diary, &stop)
    }));
    drop(tell);
    let reckoning = async {
        let deadline = begun + scale.length + SUBMITTING;
        let probing = recovery::probe(&users, &ledger, healed, deadline);
        let submitting = users.submit_all(orders, begun, deadline);
        let ((), probes) = tokio::join!(submitting, probing);
        diary.append_log("everything is healed, and everything submitted");
        let settled = settle(&ledger, scale.patience, &diary).await;
        let accounts = reckon(&cluster, &users, &ledger).await?;
        stop.cancel();
        anyhow::Ok((settled, probes, accounts))
    };
    let (mut subjects, (settled, probes, accounts)) = tokio::try_join!(suffering, reckoning)?;
    watchers.join_all().await;
    // The servers last: what else runs would only complain, and the namespace is cleaned up.
    let servers = subjects.split_off(subjects.len().saturating_sub(2));
    drop((subjects, cluster, servers));
    Ok(Outcome {
        plan,
        recoveries: recovery::recoveries(&probes, &accounts),
        verdict: Verdict::on(accounts),
        settled,
        took: started.elapsed(),
    })
}

/// Waits until every accepted job has ended, or none has for as long as `patience`; how long that took.
async fn settle(ledger: &Ledger, patience: Duration, diary: &Diary) -> Duration {
    let healed = Instant::now();
    let mut open = ledger.open_jobs().len();
    while open > 0 {
        // A backlog takes as long as it takes; jobs that do not end while others do are seen at its end.
        let fewer = eventually("a job ended", patience, async || {
            Some(ledger.open_jobs().len()).filter(|left| *left < open)
        });
        match fewer.await {
            Ok(left) => open = left,
            Err(_) => break,
        }
    }
    diary.append_log(&format!("the end: {open} jobs have not ended"));
    healed.elapsed()
}

/// All accounts with their records. Every result is read once more, and the last events and replies are waited for.
async fn reckon(cluster: &Cluster, users: &Users, ledger: &Ledger) -> anyhow::Result<Vec<Account>> {
    let deadline = Instant::now() + RECKONING;
    let jobs = ledger.accounts().into_iter().flat_map(|account| {
        let Account { ids, order, .. } = account;
        ids.into_iter().map(move |id| (id, order.destination()))
    });
    let found: Vec<Option<(JobId, Found)>> = futures::stream::iter(jobs)
        .map(async |(id, destination)| {
            let Some(record) = read(cluster, id, deadline).await? else {
                return Ok(None);
            };
            if record.state.is_terminal() {
                let result = persist(deadline, async || result(users, destination, id).await);
                let result = result.await.context("no router answers any more")?;
                ledger.told(id, Witness::Result, End::body(result));
            }
            let steps = steps(cluster, &record, deadline).await?;
            anyhow::Ok(Some((id, Found { record, steps })))
        })
        .buffer_unordered(QUESTIONS)
        .try_collect()
        .await?;
    let found: HashMap<JobId, Found> = found.into_iter().flatten().collect();
    let with_records = || {
        let mut accounts = ledger.accounts();
        for account in &mut accounts {
            if let Some(found) = account.ids.first().and_then(|id| found.get(id)) {
                account.record = Some(found.record.clone());
                account.steps.clone_from(&found.steps);
            }
        }
        accounts
    };
    // What is unannounced then stays so.
    let _ = eventually("all ends were told", LAST_WORDS, async || {
        let verdict = Verdict::on(with_records());
        (verdict.count(Finding::Unannounced) == 0).then_some(())
    })
    .await;
    Ok(with_records())
}

/// What Redis has of an order.
struct Found {
    record: JobRecord,
    steps: Vec<JobRecord>,
}

async fn read(
    cluster: &Cluster,
    id: JobId,
    deadline: Instant,
) -> anyhow::Result<Option<JobRecord>> {
    let record = persist(deadline, async || cluster.store().jobs().job(id).await.ok());
    record.await.context("Redis does not answer any more")
}

/// The records of the jobs that a flow submitted, those of its nested flows included.
async fn steps(
    cluster: &Cluster,
    flow: &JobRecord,
    deadline: Instant,
) -> anyhow::Result<Vec<JobRecord>> {
    let mut open = vec![flow.clone()];
    let mut jobs = Vec::new();
    while let Some(record) = open.pop() {
        for step in record.flow.into_iter().flat_map(|flow| flow.steps) {
            match read(cluster, step.job, deadline).await? {
                Some(step) if step.flow.is_some() => open.push(step),
                Some(step) => jobs.push(step),
                // A step that was noted but not submitted yet when its flow was cancelled.
                None => {}
            }
        }
    }
    Ok(jobs)
}

/// What a router answers for a job that ended; `None` if it can not answer now.
async fn result(users: &Users, destination: &str, id: JobId) -> Option<Value> {
    let app = destination.parse().ok()?;
    let result = users.router().result(&app, id).await.ok()?;
    let own = result.status != 503 || result.body["error_type"] == QUARANTINED;
    own.then_some(result.body)
}
