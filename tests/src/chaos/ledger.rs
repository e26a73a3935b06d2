//! The ledger of a run: submissions, acceptances, and every reported end of a job.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use warmq_types::ids::JobId;
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

use super::workload::{LONG_MS, Submission};

/// The source of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `GET /v1/jobs/{id}`
    Record,
    /// `GET /queue/{app}/requests/{id}`
    Result,
    /// Exchange `jobs.events`.
    Event,
    /// The message to `reply_to`.
    Reply,
    /// The response to a cancellation.
    Cancellation,
}

/// An end as reported; what the source does not contain is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// Final state.
    pub state: Option<JobState>,
    /// The output, or the error's body.
    pub body: Option<Value>,
    /// Unix ms.
    pub finished_ms: Option<u64>,
}

impl End {
    /// An end with the state alone.
    pub fn state(state: JobState) -> Self {
        Self {
            state: Some(state),
            body: None,
            finished_ms: None,
        }
    }

    /// An end with the result alone.
    pub fn body(body: Value) -> Self {
        Self {
            state: None,
            body: Some(body),
            finished_ms: None,
        }
    }

    /// The end in a record, if the job ended.
    pub fn of(record: &JobRecord) -> Option<Self> {
        let body = match record.failure() {
            Some(error) => error.body(),
            None => record.output.clone().unwrap_or_default(),
        };
        record.state.is_terminal().then_some(Self {
            state: Some(record.state),
            body: Some(body),
            finished_ms: record.finished_ms,
        })
    }
}

/// All known facts about one submission.
#[derive(Debug, Clone)]
pub struct Account {
    /// The planned submission.
    pub submission: Submission,
    /// The ids under which it was accepted.
    pub ids: BTreeSet<JobId>,
    /// The reason of a final refusal.
    pub refused: Option<String>,
    /// Distinct reported ends, each with its first source.
    pub reports: Vec<(Source, End)>,
    /// Its final record.
    pub record: Option<JobRecord>,
    /// The records of its steps, if it is a flow.
    pub steps: Vec<JobRecord>,
}

impl Account {
    /// An account without facts.
    pub fn new(submission: Submission) -> Self {
        Self {
            submission,
            ids: BTreeSet::new(),
            refused: None,
            reports: Vec::new(),
            record: None,
            steps: Vec::new(),
        }
    }

    /// The records of the jobs that runners executed for it.
    pub fn executed(&self) -> impl Iterator<Item = &JobRecord> {
        let own = self.record.iter().filter(|record| record.flow.is_none());
        own.chain(&self.steps)
    }

    /// Returns whether `source` reported an end.
    pub fn has_report_from(&self, source: Source) -> bool {
        self.reports.iter().any(|(teller, _)| *teller == source)
    }
}

/// A shared handle on all accounts of a run.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Accounts>>);

#[derive(Default)]
struct Accounts {
    accounts: Vec<Account>,
    /// Accounts by accepted id.
    by_id: HashMap<JobId, usize>,
    /// Reports that arrived before the submitter's response.
    early: HashMap<JobId, Vec<(Source, End)>>,
}

impl Ledger {
    /// Opens an account for each submission.
    pub fn of(submissions: &[Submission]) -> Self {
        let ledger = Self::default();
        ledger.book().accounts = submissions.iter().cloned().map(Account::new).collect();
        ledger
    }

    /// Opens one more account; `submission` receives its number.
    pub fn open(&self, submission: impl FnOnce(usize) -> Submission) -> Submission {
        let mut book = self.book();
        let submission = submission(book.accounts.len());
        book.accounts.push(Account::new(submission.clone()));
        submission
    }

    /// Records an acceptance.
    pub fn accepted(&self, number: usize, id: JobId) {
        let mut book = self.book();
        book.accounts[number].ids.insert(id);
        book.by_id.insert(id, number);
        let early = book.early.remove(&id).unwrap_or_default();
        for (source, end) in early {
            book.append(number, source, end);
        }
    }

    /// Records a final refusal.
    pub fn refused(&self, number: usize, why: String) {
        self.book().accounts[number].refused = Some(why);
    }

    /// Records a report of an end.
    pub fn record_end(&self, id: JobId, source: Source, end: End) {
        let mut book = self.book();
        match book.by_id.get(&id).copied() {
            Some(number) => book.append(number, source, end),
            None => book.early.entry(id).or_default().push((source, end)),
        }
    }

    /// Returns the accepted jobs whose end has not been read.
    pub fn open_jobs(&self) -> Vec<JobId> {
        let book = self.book();
        let open = book
            .accounts
            .iter()
            .filter(|account| !account.has_report_from(Source::Record));
        open.flat_map(|account| account.ids.iter().copied())
            .collect()
    }

    /// Returns the numbers of submissions, of those accepted or refused, and of jobs whose end was
    /// read.
    pub fn counts(&self) -> (usize, usize, usize) {
        let book = self.book();
        let count = |what: fn(&Account) -> bool| {
            let found = book.accounts.iter().filter(|account| what(account));
            found.count()
        };
        let answered = count(|account| !account.ids.is_empty() || account.refused.is_some());
        let ended = count(|account| account.has_report_from(Source::Record));
        (book.accounts.len(), answered, ended)
    }

    /// Returns the ids under which a submission was accepted so far.
    pub fn ids(&self, number: usize) -> Vec<JobId> {
        self.book().accounts[number].ids.iter().copied().collect()
    }

    /// Returns whether a job runs long enough to be hit in mid-run.
    pub fn is_long(&self, id: JobId) -> bool {
        let book = self.book();
        let account = book.by_id.get(&id).map(|number| &book.accounts[*number]);
        account.is_some_and(|account| account.submission.run_ms >= LONG_MS)
    }

    /// Returns all accounts as of now.
    pub fn accounts(&self) -> Vec<Account> {
        self.book().accounts.clone()
    }

    fn book(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts {
    fn append(&mut self, number: usize, source: Source, end: End) {
        let reports = &mut self.accounts[number].reports;
        if !reports.contains(&(source, end.clone())) {
            reports.push((source, end));
        }
    }
}
