//! From all that is known about the jobs to a verdict. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

use super::ledger::{Account, End, Witness};
use super::orders::{Door, Ending, FAILURE};

/// The error type of a job that lost its runners as often as it could be begun.
pub const QUARANTINED: &str = "runner_disconnected";

/// What is wrong with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// It was accepted, and nothing is known of it.
    Lost,
    /// It was accepted, and has not ended.
    Stuck,
    /// It was told to have ended in two ways, or it is two jobs.
    DoublyVisible,
    /// It ended, and no event told of that, or no reply its submitter, who waits for one.
    Unannounced,
    /// It ended as it must not.
    Wrong,
    /// It was refused for good, or nobody took it.
    NotTaken,
}

impl Finding {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Lost,
        Self::Stuck,
        Self::DoublyVisible,
        Self::Unannounced,
        Self::Wrong,
        Self::NotTaken,
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
            Self::NotTaken => "not taken",
        })
    }
}

/// A job that something is wrong with.
#[derive(Debug, Clone)]
pub struct Bad {
    /// What.
    pub finding: Finding,
    /// Why, in a sentence.
    pub why: String,
    /// All that is known of it.
    pub account: Account,
}

/// How all jobs of a run fared.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Jobs that were accepted.
    pub accepted: usize,
    /// Jobs by the state that they ended in, quarantined ones apart.
    pub ends: BTreeMap<&'static str, usize>,
    /// Jobs, those of flows included, by how often they were begun.
    pub executions: BTreeMap<u64, usize>,
    /// What is wrong.
    pub bad: Vec<Bad>,
}

impl Verdict {
    /// The verdict on all jobs.
    pub fn on(accounts: Vec<Account>) -> Self {
        let mut verdict = Self::default();
        for account in accounts {
            verdict.add(account);
        }
        verdict
    }

    /// Jobs with this finding.
    pub fn count(&self, finding: Finding) -> usize {
        let found = self.bad.iter().filter(|bad| bad.finding == finding);
        found.count()
    }

    /// Nothing is wrong.
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

/// What a job ended as.
fn end_name(record: &JobRecord) -> &'static str {
    match is_quarantined(record) {
        true => "quarantined",
        false => record.state.as_str(),
    }
}

/// It lost its runners as often as it could be begun.
fn is_quarantined(record: &JobRecord) -> bool {
    let error = record.error.as_ref();
    error.is_some_and(|error| error.error_type == QUARANTINED)
}

fn judge(account: &Account) -> Result<(), (Finding, String)> {
    if let Some(why) = &account.refused {
        return Err((Finding::NotTaken, why.clone()));
    }
    let ids: Vec<String> = account.ids.iter().map(ToString::to_string).collect();
    match ids.len() {
        0 => return Err((Finding::NotTaken, "nobody accepted it".to_owned())),
        1 => {}
        _ => return Err((Finding::DoublyVisible, format!("it is {}", ids.join(", ")))),
    }
    let Some(record) = &account.record else {
        return Err((Finding::Lost, "it has no record".to_owned()));
    };
    let Some(end) = End::of(record) else {
        return Err((Finding::Stuck, format!("it is {}", record.state)));
    };
    for (witness, told) in &account.told {
        if let Some(difference) = difference(told, &end) {
            let why = format!("{witness:?} told another end: {difference}");
            return Err((Finding::DoublyVisible, why));
        }
    }
    let wants_reply = account.order.door == Door::Amqp { reply: true };
    for (witness, wanted) in [(Witness::Event, true), (Witness::Reply, wants_reply)] {
        if wanted && !account.was_told_by(witness) {
            return Err((
                Finding::Unannounced,
                format!("no {witness:?} told of its end"),
            ));
        }
    }
    // A step's end is not announced to anyone but its flow, which has ended.
    if let Some(step) = account.steps.iter().find(|step| !step.state.is_terminal()) {
        let why = format!("its step {} is {}", step.spec.id, step.state);
        return Err((Finding::Stuck, why));
    }
    expected(account, record).map_err(|why| (Finding::Wrong, why))
}

/// What two tellings of an end disagree about.
fn difference(told: &End, end: &End) -> Option<String> {
    fn differ<T: PartialEq + fmt::Debug>(told: &Option<T>, end: &Option<T>) -> Option<String> {
        let both = told.as_ref().zip(end.as_ref());
        both.filter(|(told, end)| told != end)
            .map(|(told, end)| format!("{told:?}, not {end:?}"))
    }
    differ(&told.state, &end.state)
        .or_else(|| differ(&told.body, &end.body))
        .or_else(|| differ(&told.finished_ms, &end.finished_ms))
}

/// Whether a job may have ended as its record says.
fn expected(account: &Account, record: &JobRecord) -> Result<(), String> {
    let order = &account.order;
    let output = record.output.as_ref().unwrap_or(&Value::Null);
    let file_bytes = order.file().map_or(Value::Null, |file| file.len().into());
    let message = record.error.as_ref().map(|error| error.message.as_str());
    match (record.state, order.ending) {
        (JobState::Cancelled, _) if order.cancelled_after.is_some() => Ok(()),
        (JobState::Failed, _) if is_quarantined(record) => Ok(()),
        (JobState::Failed, Ending::Failure) if message.is_some_and(|it| it.contains(FAILURE)) => {
            Ok(())
        }
        (JobState::Succeeded, Ending::Number) if *output == order.output() => Ok(()),
        (JobState::Succeeded, Ending::Execution)
            if output["runner"].is_string() && output["file_bytes"] == file_bytes =>
        {
            Ok(())
        }
        (state, ending) => Err(format!(
            "it {state} with {output}, error {message:?}, and was to end with {ending:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use warmq_types::ids::{AppId, Fence, JobId};
    use warmq_types::job::{JobError, JobSpec};

    use super::super::orders::Order;
    use super::*;

    /// A job that was accepted and has ended well.
    fn well() -> Account {
        let mut account = Account::new(Order::probe(3));
        let app = AppId::parse("a/b").unwrap();
        let spec = JobSpec::new(app, account.order.input());
        account.ids.insert(spec.id);
        account.told = vec![(Witness::Event, End::state(JobState::Succeeded))];
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
    fn a_job_that_all_tell_the_same_of_is_well() {
        let told = |account: &mut Account| {
            let end = End::of(record(account)).unwrap();
            let body = end.body.clone().unwrap();
            account.told = vec![
                (Witness::Record, end),
                (Witness::Result, End::body(body.clone())),
                (Witness::Reply, End::body(body)),
                (Witness::Event, End::state(JobState::Succeeded)),
            ];
        };
        assert_eq!(findings(told), []);
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
    fn two_ends_of_a_job_are_seen_whoever_told_them() {
        for (witness, end) in [
            (Witness::Record, JobState::Failed.into_end(Some(6))),
            (Witness::Record, JobState::Succeeded.into_end(Some(6))),
            (Witness::Event, End::state(JobState::Failed)),
            (Witness::Cancellation, End::state(JobState::Cancelled)),
            (Witness::Reply, End::body(json!({"number": 4}))),
        ] {
            let told = |account: &mut Account| account.told.push((witness, end));
            assert_eq!(findings(told), [Finding::DoublyVisible]);
        }
    }

    #[test]
    fn an_end_that_nobody_hears_of_is_unannounced() {
        assert_eq!(
            findings(|account| account.told.clear()),
            [Finding::Unannounced]
        );
        let unanswered = |account: &mut Account| account.order.door = Door::Amqp { reply: true };
        assert_eq!(findings(unanswered), [Finding::Unannounced]);
    }

    #[test]
    fn one_order_that_became_two_jobs_is_doubly_visible() {
        let twice = |account: &mut Account| {
            account.ids.insert(JobId::generate());
        };
        assert_eq!(findings(twice), [Finding::DoublyVisible]);
    }

    #[test]
    fn another_jobs_output_is_wrong_and_so_is_an_end_that_nobody_asked_for() {
        let foreign = |account: &mut Account| record(account).output = Some(json!({"number": 4}));
        assert_eq!(findings(foreign), [Finding::Wrong]);
        for state in [JobState::Cancelled, JobState::Expired] {
            let unasked = |account: &mut Account| {
                record(account).state = state;
                account.told = vec![(Witness::Event, End::state(state))];
            };
            assert_eq!(findings(unasked), [Finding::Wrong]);
        }
    }

    #[test]
    fn an_order_that_nobody_took_is_found() {
        let not_taken = |account: &mut Account| account.ids.clear();
        assert_eq!(findings(not_taken), [Finding::NotTaken]);
        let refused = |account: &mut Account| account.refused = Some("HTTP 404".to_owned());
        assert_eq!(findings(refused), [Finding::NotTaken]);
    }

    #[test]
    fn quarantine_is_an_end_of_its_own() {
        let mut account = well();
        let ended = record(&mut account);
        (ended.state, ended.output) = (JobState::Failed, None);
        ended.error = Some(JobError::quarantined(1, &[]));
        ended.fence = Fence(2);
        account.told = vec![(Witness::Event, End::state(JobState::Failed))];
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
