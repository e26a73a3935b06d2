//! One run: start, submissions and faults, settling, verdict.

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
use warmq_testkit::{Testbed, eventually};
use warmq_types::ids::JobId;
use warmq_types::job::JobRecord;

use super::accountant::{Finding, QUARANTINED, Verdict};
use super::environment::Environment;
use super::fault_log::FaultLog;
use super::injector::inject;
use super::ledger::{Account, End, Ledger, Source};
use super::plan::{Plan, Scale};
use super::progress::Progress;
use super::recovery::Recovery;
use super::retry::retry_until;
use super::submitters::Submitters;
use super::{observer, recovery, workload};

/// How long events and replies may follow the end of the last job.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(30);

/// Latest submission of a job after its planned time.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(300);

/// Timeout for reading all records and results.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum of concurrent reads after the run.
const PARALLEL_READS: usize = 16;

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The faults.
    pub plan: Plan,
    /// The judged jobs.
    pub verdict: Verdict,
    /// The recovery after each fault.
    pub recoveries: Vec<Recovery>,
    /// From the end of the last fault until every job had ended, or the stall timeout.
    pub settled: Duration,
    /// Duration of the run, the start of the servers included.
    pub took: Duration,
}

/// Runs a seed; `folder` has all logs and the servers' data afterwards.
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
    let submissions = workload::draw(seed, scale);
    let Environment {
        testbed,
        routers,
        targets,
    } = Environment::start(folder, plan.queue_type).await?;
    observer::declare(testbed.amqp_url(), testbed.topology()).await?;

    let stop = CancellationToken::new();
    let ledger = Ledger::of(&submissions);
    let exchange = testbed.topology().jobs_exchange();
    let submitters = Submitters::new(
        &routers,
        testbed.amqp_url().clone(),
        exchange,
        ledger.clone(),
    )?;
    let mut observers = JoinSet::new();
    observers.spawn(progress.follow(ledger.clone(), stop.clone()));
    observers.spawn(observer::ask(
        submitters.clone(),
        ledger.clone(),
        stop.clone(),
    ));
    let amqp_url = testbed.amqp_url().clone();
    observers.spawn(observer::consume_ends(
        amqp_url,
        ledger.clone(),
        stop.clone(),
    ));

    let begun = Instant::now();
    let log = FaultLog::begin(&folder.join("faults.log")).context("faults.log")?;
    let (healed_sender, healed) = mpsc::channel(plan.faults.len().max(1));
    let injecting = try_join_all(targets.into_iter().map(|target| {
        let faults = plan.of(target.victim);
        inject(
            target,
            faults,
            begun,
            healed_sender.clone(),
            &ledger,
            &log,
            &stop,
        )
    }));
    drop(healed_sender);
    let judging = async {
        let deadline = begun + scale.length + SUBMIT_TIMEOUT;
        let probing = recovery::probe(&submitters, &ledger, healed, deadline);
        let submitting = submitters.submit_all(submissions, begun, deadline);
        let ((), probes) = tokio::join!(submitting, probing);
        log.append("everything is healed, and everything submitted");
        let settled = settle(&ledger, scale.stall_timeout, &log).await;
        let accounts = collect_accounts(&testbed, &submitters, &ledger).await?;
        stop.cancel();
        anyhow::Ok((settled, probes, accounts))
    };
    let (mut targets, (settled, probes, accounts)) = tokio::try_join!(injecting, judging)?;
    observers.join_all().await;
    // The servers last: other processes would log errors, and cleaning up needs them.
    let servers = targets.split_off(targets.len().saturating_sub(2));
    drop((targets, testbed, servers));
    Ok(Outcome {
        plan,
        recoveries: recovery::recoveries(&probes, &accounts),
        verdict: Verdict::on(accounts),
        settled,
        took: started.elapsed(),
    })
}

/// Waits until every accepted job has ended, or none has for `stall_timeout`; returns the time that
/// took.
async fn settle(ledger: &Ledger, stall_timeout: Duration, log: &FaultLog) -> Duration {
    let healed = Instant::now();
    let mut open = ledger.open_jobs().len();
    while open > 0 {
        // A backlog may take long; jobs that do not end while others do are found at its end.
        let fewer = eventually("a job ended", stall_timeout, async || {
            Some(ledger.open_jobs().len()).filter(|left| *left < open)
        });
        match fewer.await {
            Ok(left) => open = left,
            Err(_) => break,
        }
    }
    log.append(&format!("the end: {open} jobs have not ended"));
    healed.elapsed()
}

/// Returns all accounts with their records. Reads every result once more, and waits for the last
/// events and replies.
async fn collect_accounts(
    testbed: &Testbed,
    submitters: &Submitters,
    ledger: &Ledger,
) -> anyhow::Result<Vec<Account>> {
    let deadline = Instant::now() + READ_TIMEOUT;
    let jobs = ledger.accounts().into_iter().flat_map(|account| {
        let Account {
            ids, submission, ..
        } = account;
        ids.into_iter().map(move |id| (id, submission.endpoint()))
    });
    let found: Vec<Option<(JobId, Found)>> = futures::stream::iter(jobs)
        .map(async |(id, endpoint)| {
            let Some(record) = read(testbed, id, deadline).await? else {
                return Ok(None);
            };
            if record.state.is_terminal() {
                let result = retry_until(deadline, async || result(submitters, endpoint, id).await);
                let result = result.await.context("no router answers any more")?;
                ledger.record_end(id, Source::Result, End::body(result));
            }
            let steps = steps(testbed, &record, deadline).await?;
            anyhow::Ok(Some((id, Found { record, steps })))
        })
        .buffer_unordered(PARALLEL_READS)
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
    // What is missing after that is unannounced.
    let _ = eventually("all ends were announced", ANNOUNCE_TIMEOUT, async || {
        let verdict = Verdict::on(with_records());
        (verdict.count(Finding::Unannounced) == 0).then_some(())
    })
    .await;
    Ok(with_records())
}

/// The records of a submission in Redis.
struct Found {
    record: JobRecord,
    steps: Vec<JobRecord>,
}

async fn read(
    testbed: &Testbed,
    id: JobId,
    deadline: Instant,
) -> anyhow::Result<Option<JobRecord>> {
    let record = retry_until(deadline, async || testbed.store().jobs().job(id).await.ok());
    record.await.context("Redis does not answer any more")
}

/// Returns the records of the jobs that a flow submitted, those of nested flows included.
async fn steps(
    testbed: &Testbed,
    flow: &JobRecord,
    deadline: Instant,
) -> anyhow::Result<Vec<JobRecord>> {
    let mut open = vec![flow.clone()];
    let mut jobs = Vec::new();
    while let Some(record) = open.pop() {
        for step in record.flow.into_iter().flat_map(|flow| flow.steps) {
            match read(testbed, step.job, deadline).await? {
                Some(step) if step.flow.is_some() => open.push(step),
                Some(step) => jobs.push(step),
                // A step that was recorded but not submitted yet when its flow was cancelled.
                None => {}
            }
        }
    }
    Ok(jobs)
}

/// Returns a router's response for an ended job; `None` if it cannot respond now.
async fn result(submitters: &Submitters, endpoint: &str, id: JobId) -> Option<Value> {
    let app = endpoint.parse().ok()?;
    let result = submitters.router().result(&app, id).await.ok()?;
    let own = result.status != 503 || result.body["error_type"] == QUARANTINED;
    own.then_some(result.body)
}
