//! Judges all accounts of a run. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

use super::ledger::{Account, End, Source};
use super::workload::{Expected, FAILURE, Transport};

/// Error type of a quarantined job.
pub const QUARANTINED: &str = "runner_disconnected";

/// A violation of what warmq promises about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// It was accepted and has no record.
    Lost,
    /// It was accepted and has not ended.
    Stuck,
    /// Two different ends were reported, or it is two jobs.
    DoublyVisible,
    /// It ended without an event, or without a reply although its submitter requested one.
    Unannounced,
    /// It ended with an unexpected state or output.
    Wrong,
    /// It was refused for good, or never accepted.
    NotAccepted,
}

impl Finding {
    /// All violations.
    pub const ALL: [Self; 6] = [
        Self::Lost,
        Self::Stuck,
        Self::DoublyVisible,
        Self::Unannounced,
        Self::Wrong,
        Self::NotAccepted,
    ];
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Stuck => "stuck",
            Self::DoublyVisible => "doubly visible",
            Self::Unannounced => "unannounced",
            Self::Wrong => "wrong",
            Self::NotAccepted => "not taken",
        })
    }
}

/// A job with a violation.
#[derive(Debug, Clone)]
pub struct Bad {
    /// The violation.
    pub finding: Finding,
    /// The reason, in a sentence.
    pub why: String,
    /// The known facts.
    pub account: Account,
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Number of accepted jobs.
    pub accepted: usize,
    /// Jobs by final state, quarantined ones apart.
    pub ends: BTreeMap<&'static str, usize>,
    /// Jobs, steps of flows included, by number of attempts.
    pub executions: BTreeMap<u64, usize>,
    /// All violations.
    pub bad: Vec<Bad>,
}

impl Verdict {
    /// Judges all accounts.
    pub fn on(accounts: Vec<Account>) -> Self {
        let mut verdict = Self::default();
        for account in accounts {
            verdict.add(account);
        }
        verdict
    }

    /// Returns how many jobs have this violation.
    pub fn count(&self, finding: Finding) -> usize {
        let found = self.bad.iter().filter(|bad| bad.finding == finding);
        found.count()
    }

    /// Returns whether there is no violation.
    pub fn is_clean(&self) -> bool {
        self.bad.is_empty()
    }

    fn add(&mut self, account: Account) {
        self.accepted += usize::from(!account.ids.is_empty());
        if let Some(record) = account.record.as_ref().filter(|r| r.state.is_terminal()) {
            *self.ends.entry(end_name(record)).or_default() += 1;
        }
        for record in account
            .executed()
            .filter(|record| record.state.is_terminal())
        {
            *self.executions.entry(record.fence.0).or_default() += 1;
        }
        if let Err((finding, why)) = judge(&account) {
            self.bad.push(Bad {
                finding,
                why,
                account,
            });
        }
    }
}

/// Returns the final state, or `quarantined`.
fn end_name(record: &JobRecord) -> &'static str {
    match is_quarantined(record) {
        true => "quarantined",
        false => record.state.as_str(),
    }
}

/// Returns whether the job lost all its attempts.
fn is_quarantined(record: &JobRecord) -> bool {
    let error = record.error.as_ref();
    error.is_some_and(|error| error.error_type == QUARANTINED)
}

fn judge(account: &Account) -> Result<(), (Finding, String)> {
    if let Some(why) = &account.refused {
        return Err((Finding::NotAccepted, why.clone()));
    }
    let ids: Vec<String> = account.ids.iter().map(ToString::to_string).collect();
    match ids.len() {
        0 => return Err((Finding::NotAccepted, "never accepted".to_owned())),
        1 => {}
        _ => return Err((Finding::DoublyVisible, format!("it is {}", ids.join(", ")))),
    }
    let Some(record) = &account.record else {
        return Err((Finding::Lost, "it has no record".to_owned()));
    };
    let Some(end) = End::of(record) else {
        return Err((Finding::Stuck, format!("it is {}", record.state)));
    };
    for (source, reports) in &account.reports {
        if let Some(difference) = difference(reports, &end) {
            let why = format!("{source:?} reported another end: {difference}");
            return Err((Finding::DoublyVisible, why));
        }
    }
    let wants_reply = account.submission.transport == Transport::Amqp { reply: true };
    for source in [Source::Event, Source::Reply] {
        if wants_reply && !account.has_report_from(source) {
            return Err((
                Finding::Unannounced,
                format!("no {source:?} reported its end"),
            ));
        }
    }
    // The end of a step is announced only to its flow, which has ended.
    if let Some(step) = account.steps.iter().find(|step| !step.state.is_terminal()) {
        let why = format!("its step {} is {}", step.spec.id, step.state);
        return Err((Finding::Stuck, why));
    }
    check_outcome(account, record).map_err(|why| (Finding::Wrong, why))
}

/// Describes how two reports of an end differ.
fn difference(reports: &End, end: &End) -> Option<String> {
    fn differ<T: PartialEq + fmt::Debug>(reports: &Option<T>, end: &Option<T>) -> Option<String> {
        let both = reports.as_ref().zip(end.as_ref());
        both.filter(|(reports, end)| reports != end)
            .map(|(reports, end)| format!("{reports:?}, not {end:?}"))
    }
    differ(&reports.state, &end.state)
        .or_else(|| differ(&reports.body, &end.body))
        .or_else(|| differ(&reports.finished_ms, &end.finished_ms))
}

/// Checks the state and output of an ended job.
fn check_outcome(account: &Account, record: &JobRecord) -> Result<(), String> {
    let submission = &account.submission;
    let output = record.output.as_ref().unwrap_or(&Value::Null);
    let file_bytes = submission
        .file()
        .map_or(Value::Null, |file| file.len().into());
    let message = record.error.as_ref().map(|error| error.message.as_str());
    match (record.state, submission.expected) {
        (JobState::Cancelled, _) if submission.cancelled_after.is_some() => Ok(()),
        (JobState::Failed, _) if is_quarantined(record) => Ok(()),
        (JobState::Failed, Expected::Failure) if message.is_some_and(|it| it.contains(FAILURE)) => {
            Ok(())
        }
        (JobState::Succeeded, Expected::Number) if *output == submission.output() => Ok(()),
        (JobState::Succeeded, Expected::Execution)
            if output["runner"].is_string() && output["file_bytes"] == file_bytes =>
        {
            Ok(())
        }
        (state, expected) => Err(format!(
            "it {state} with {output}, error {message:?}, and was to end with {expected:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use warmq_types::ids::{AppId, Fence, JobId};
    use warmq_types::job::{JobError, JobSpec};

    use super::super::workload::Submission;
    use super::*;

    /// An accepted job that succeeded.
    fn well() -> Account {
        let mut account = Account::new(Submission::probe(3));
        let app = AppId::parse("a/b").unwrap();
        let spec = JobSpec::new(app, account.submission.input());
        account.ids.insert(spec.id);
        account.reports = vec![(Source::Event, End::state(JobState::Succeeded))];
        let record = json!({
            "state": "succeeded", "attempt": 1, "fence": 1, "finished_ms": 5, "output": {"number": 3},
        });
        let mut whole = serde_json::to_value(&spec).unwrap();
        for (name, value) in record.as_object().unwrap() {
            whole[name] = value.clone();
        }
        account.record = Some(serde_json::from_value(whole).unwrap());
        account
    }

    fn findings(change: impl FnOnce(&mut Account)) -> Vec<Finding> {
        let mut account = well();
        change(&mut account);
        let verdict = Verdict::on(vec![account]);
        verdict.bad.iter().map(|bad| bad.finding).collect()
    }

    fn record(account: &mut Account) -> &mut JobRecord {
        account.record.as_mut().unwrap()
    }

    #[test]
    fn a_job_with_equal_reports_is_clean() {
        let reports = |account: &mut Account| {
            let end = End::of(record(account)).unwrap();
            let body = end.body.clone().unwrap();
            account.reports = vec![
                (Source::Record, end),
                (Source::Result, End::body(body.clone())),
                (Source::Reply, End::body(body)),
                (Source::Event, End::state(JobState::Succeeded)),
            ];
        };
        assert_eq!(findings(reports), []);
    }

    #[test]
    fn a_job_without_record_is_lost() {
        assert_eq!(findings(|account| account.record = None), [Finding::Lost]);
    }

    #[test]
    fn a_job_that_has_not_ended_is_stuck() {
        for state in [JobState::Queued, JobState::Dispatched, JobState::Running] {
            let stuck = |account: &mut Account| record(account).state = state;
            assert_eq!(findings(stuck), [Finding::Stuck]);
        }
    }

    #[test]
    fn different_reported_ends_are_doubly_visible() {
        for (source, end) in [
            (Source::Record, JobState::Failed.into_end(Some(6))),
            (Source::Record, JobState::Succeeded.into_end(Some(6))),
            (Source::Event, End::state(JobState::Failed)),
            (Source::Cancellation, End::state(JobState::Cancelled)),
            (Source::Reply, End::body(json!({"number": 4}))),
        ] {
            let reports = |account: &mut Account| account.reports.push((source, end));
            assert_eq!(findings(reports), [Finding::DoublyVisible]);
        }
    }

    #[test]
    fn an_end_without_event_or_reply_is_unannounced() {
        let without = |account: &mut Account| account.reports.clear();
        assert_eq!(findings(without), []);
        for only in [Source::Event, Source::Reply] {
            let half_announced = |account: &mut Account| {
                account.submission.transport = Transport::Amqp { reply: true };
                account.reports = vec![(only, End::state(JobState::Succeeded))];
            };
            assert_eq!(findings(half_announced), [Finding::Unannounced]);
        }
    }

    #[test]
    fn a_submission_with_two_jobs_is_doubly_visible() {
        let twice = |account: &mut Account| {
            account.ids.insert(JobId::generate());
        };
        assert_eq!(findings(twice), [Finding::DoublyVisible]);
    }

    #[test]
    fn another_jobs_output_and_an_unexpected_end_are_wrong() {
        let foreign = |account: &mut Account| record(account).output = Some(json!({"number": 4}));
        assert_eq!(findings(foreign), [Finding::Wrong]);
        for state in [JobState::Cancelled, JobState::Expired] {
            let unasked = |account: &mut Account| {
                record(account).state = state;
                account.reports = vec![(Source::Event, End::state(state))];
            };
            assert_eq!(findings(unasked), [Finding::Wrong]);
        }
    }

    #[test]
    fn an_unaccepted_submission_is_found() {
        let not_taken = |account: &mut Account| account.ids.clear();
        assert_eq!(findings(not_taken), [Finding::NotAccepted]);
        let refused = |account: &mut Account| account.refused = Some("HTTP 404".to_owned());
        assert_eq!(findings(refused), [Finding::NotAccepted]);
    }

    #[test]
    fn quarantined_jobs_are_counted_apart() {
        let mut account = well();
        let ended = record(&mut account);
        (ended.state, ended.output) = (JobState::Failed, None);
        ended.error = Some(JobError::quarantined(1, &[]));
        ended.fence = Fence(2);
        account.reports = vec![(Source::Event, End::state(JobState::Failed))];
        let verdict = Verdict::on(vec![account, well()]);
        assert!(verdict.is_clean(), "{:?}", verdict.bad);
        let ends = [("quarantined", 1), ("succeeded", 1)];
        assert_eq!(verdict.ends, BTreeMap::from(ends));
        assert_eq!(verdict.executions, BTreeMap::from([(1, 1), (2, 1)]));
    }

    trait IntoEnd {
        fn into_end(self, finished_ms: Option<u64>) -> End;
    }

    impl IntoEnd for JobState {
        fn into_end(self, finished_ms: Option<u64>) -> End {
            End {
                finished_ms,
                ..End::state(self)
            }
        }
    }
}
