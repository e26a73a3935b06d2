//! Recovery times: from the end of a fault to the end of the next job, and of a probe submitted at
//! that moment.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use warmq_types::job::JobRecord;

use super::ledger::{Account, Ledger};
use super::plan::{Fault, Kind, Role};
use super::submitters::Submitters;
use super::workload::Submission;

/// Maximum of concurrent probes, so that no fault waits for the probe of another.
const PROBES: usize = 64;

/// The job that is submitted at the end of a fault.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    fault: Fault,
    /// End of the fault, Unix ms.
    healed_ms: u64,
    /// The submission's number.
    number: usize,
}

/// The recovery after a fault. Another fault may have begun meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Kind of the fault.
    pub kind: Kind,
    /// Until the end of the first job that began after the fault, on the victim itself if that is a
    /// worker; `None` if no job began.
    pub next: Option<Duration>,
    /// Until the end of the probe, behind all jobs that waited already.
    pub fresh: Option<Duration>,
}

/// Submits a probe for each healed fault, until the channel closes and all probes were accepted.
pub async fn probe(
    submitters: &Submitters,
    ledger: &Ledger,
    mut healed: mpsc::Receiver<Fault>,
    deadline: Instant,
) -> Vec<Probe> {
    let healed = futures::stream::poll_fn(|context| healed.poll_recv(context));
    healed
        .map(async |fault| {
            let healed_ms = now_ms();
            let submission = ledger.open(Submission::probe);
            submitters.run(&submission, deadline).await;
            Probe {
                fault,
                healed_ms,
                number: submission.number,
            }
        })
        .buffer_unordered(PROBES)
        .collect()
        .await
}

/// Computes the recovery after each probed fault from the jobs' records.
pub fn recoveries(probes: &[Probe], accounts: &[Account]) -> Vec<Recovery> {
    let records = || {
        accounts
            .iter()
            .filter_map(|account| account.record.as_ref())
    };
    let recovery = |probe: &Probe| {
        let after = |ended_ms: u64| Duration::from_millis(ended_ms.saturating_sub(probe.healed_ms));
        let next = records().filter(|record| shows(record, probe));
        let fresh = accounts.get(probe.number);
        let fresh = fresh.and_then(|account| account.record.as_ref());
        Recovery {
            kind: probe.fault.kind(),
            next: next
                .filter_map(|record| record.finished_ms)
                .min()
                .map(after),
            fresh: fresh.and_then(|record| record.finished_ms).map(after),
        }
    };
    probes.iter().map(recovery).collect()
}

/// Returns whether a job proves that the victim works again.
fn shows(record: &JobRecord, probe: &Probe) -> bool {
    let victim = probe.fault.victim;
    let began_after = record.started_ms.is_some_and(|at| at >= probe.healed_ms);
    let runner = record.runner.as_ref().map(|runner| runner.as_str());
    let by_victim = victim.role != Role::Worker || runner == Some(victim.to_string().as_str());
    began_after && by_victim
}

/// Redis on the same machine has the same clock.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use warmq_types::ids::AppId;
    use warmq_types::job::JobSpec;

    use super::super::plan::{Harm, Victim};
    use super::*;

    /// A job with its runner and times, Unix ms.
    fn job(number: usize, runner: &str, started_ms: u64, finished_ms: u64) -> Account {
        let mut account = Account::new(Submission::probe(number));
        let spec = JobSpec::new(AppId::parse("a/b").unwrap(), account.submission.input());
        let mut record = serde_json::to_value(&spec).unwrap();
        for (name, value) in [
            ("state", json!("succeeded")),
            ("attempt", json!(1)),
            ("fence", json!(1)),
            ("runner", json!(runner)),
            ("started_ms", json!(started_ms)),
            ("finished_ms", json!(finished_ms)),
        ] {
            record[name] = value;
        }
        account.record = Some(serde_json::from_value(record).unwrap());
        account
    }

    fn recovery(victim: Victim) -> (Option<u64>, Option<u64>) {
        let accounts = [
            job(0, "worker-1", 90, 110),
            job(1, "worker-2", 120, 150),
            job(2, "worker-1", 170, 180),
            job(3, "worker-2", 200, 300),
        ];
        let fault = Fault {
            at: Duration::ZERO,
            victim,
            harm: Harm::Kill,
            duration: Duration::ZERO,
        };
        let probe = Probe {
            fault,
            healed_ms: 100,
            number: 3,
        };
        let found = recoveries(&[probe], &accounts)[0];
        let ms = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        (ms(found.next), ms(found.fresh))
    }

    #[test]
    fn the_next_job_is_one_that_began_after_the_fault() {
        assert_eq!(recovery(Victim::REDIS), (Some(50), Some(200)));
    }

    #[test]
    fn a_worker_has_recovered_once_it_ended_a_job() {
        let [one, _, three, _] = [0, 1, 2, 3].map(|index| Victim {
            role: Role::Worker,
            index,
        });
        assert_eq!(recovery(one), (Some(80), Some(200)));
        assert_eq!(recovery(three), (None, Some(200)));
    }
}
