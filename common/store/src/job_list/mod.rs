//! Lists of jobs, newest first.
//!
//! The job list is one sorted set with score 0. Each job has an entry for each filter that finds
//! it:
//!
//! | entry | finds |
//! | --- | --- |
//! | `s=<state> <id> <app>` | the jobs in a state; all jobs, merged over the states |
//! | `a=<app> <state> <id>` | the jobs of an app, in a state or merged over the states |
//! | `k=<owner> <id> <app>` | the jobs of a key |
//! | `h=<bytes>:<hint><id> <app>` | the jobs with a hint |
//!
//! So the jobs of a filter are a range in order of their ids, which is the order of time. The
//! scripts that change a record change its entries in the same step. A page is read from the
//! smallest ranges that contain its jobs; the other filters are applied to the records, of which at
//! most 1000 are read.
//!
//! An ended job leaves the list after its record ([`JobList::trim`]). Entries without a record are
//! never listed, and removed where they are found.

mod filter;
mod ranges;

use std::collections::HashMap;

use redis::{AsyncCommands, RedisResult};
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

use super::{Error, JobList};
pub use filter::{Before, JobFilter, NotACursor};
use ranges::{Entry, Range};

/// Maximum number of entries that a page examines, so that its cost is bounded although few of them
/// pass all filters.
const MAX_EXAMINED: usize = 1000;

/// Maximum number of jobs that one trim removes.
const TRIM_BATCH: isize = 500;

/// Fields of a record that are listed.
const LISTED: [&str; 15] = [
    "state",
    "owner",
    "hint",
    "priority",
    "created_ms",
    "route",
    "step_of",
    "attempt",
    "dispatched_ms",
    "started_ms",
    "finished_ms",
    "runner",
    "flow",
    "timings",
    "error",
];

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobPage {
    /// The jobs, newest first, with the fields that are listed.
    pub jobs: Vec<JobRecord>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<JobId>,
}

impl JobList<'_> {
    /// Returns the newest jobs that pass `filter`, at most `limit`. A page may be shorter, even
    /// empty, although another follows: few of the examined jobs passed.
    pub async fn page(self, filter: &JobFilter, limit: usize) -> Result<JobPage, Error> {
        let mut bound = filter.before.map(Before::bound);
        let ranges = self.smallest(filter, bound.as_deref()).await?;
        let mut page = JobPage::default();
        let (mut examined, mut batch) = (0, limit + 1);
        while examined < MAX_EXAMINED {
            let entries = self.newest(&ranges, bound.as_deref(), batch).await?;
            let mut records = self.records(&entries, filter.app.as_ref()).await?;
            let is_last = entries.len() < batch;
            examined += batch;
            for entry in entries {
                if page.jobs.len() == limit {
                    return Ok(page);
                }
                page.next = Some(entry.job);
                let found = records.remove(&entry.job);
                page.jobs.extend(found.filter(|job| filter.passes(job)));
            }
            if is_last {
                page.next = None;
                break;
            }
            bound = page.next.map(|job| job.to_string());
            batch = (4 * batch).min(MAX_EXAMINED.saturating_sub(examined));
        }
        Ok(page)
    }

    /// Returns the alternative with the fewest entries.
    async fn smallest(self, filter: &JobFilter, bound: Option<&str>) -> Result<Vec<Range>, Error> {
        let mut alternatives = ranges::alternatives(filter);
        if alternatives.len() == 1 {
            return Ok(alternatives.remove(0));
        }
        let key = self.keys.job_list();
        let mut pipe = redis::pipe();
        for range in alternatives.iter().flatten() {
            let (upper, lower) = range.bounds(bound);
            pipe.zlexcount(&key, lower, upper);
        }
        let counts: Vec<usize> = pipe.query_async(&mut self.connection.clone()).await?;
        let mut counts = counts.into_iter();
        let counted = alternatives.into_iter().map(|ranges| {
            let entries: usize = counts.by_ref().take(ranges.len()).sum();
            (entries, ranges)
        });
        let smallest = counted.min_by_key(|(entries, _)| *entries);
        Ok(smallest.map(|(_, ranges)| ranges).unwrap_or_default())
    }

    /// Returns the newest entries of `ranges` before `bound`, at most `limit`, read at one moment.
    async fn newest(
        self,
        ranges: &[Range],
        bound: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let key = self.keys.job_list();
        let mut pipe = redis::pipe();
        pipe.atomic();
        for range in ranges {
            let (upper, lower) = range.bounds(bound);
            let count = isize::try_from(limit).unwrap_or(isize::MAX);
            pipe.zrevrangebylex_limit(&key, upper, lower, 0, count);
        }
        let found: Vec<Vec<String>> = pipe.query_async(&mut self.connection.clone()).await?;
        let parsed = found.into_iter().zip(ranges).map(|(texts, range)| {
            let parsed = texts.into_iter().filter_map(|text| range.parse(text));
            parsed.collect()
        });
        Ok(ranges::merge(parsed, limit))
    }

    /// Returns the records of `entries`, of one app if one is given. Stale entries are removed, and
    /// unreadable records omitted.
    async fn records(
        self,
        entries: &[Entry],
        app: Option<&AppId>,
    ) -> Result<HashMap<JobId, JobRecord>, Error> {
        let is_of_app = |entry: &&Entry| app.is_none_or(|app| *app == entry.app);
        let entries: Vec<&Entry> = entries.iter().filter(is_of_app).collect();
        let (mut records, mut stale) = (HashMap::new(), Vec::new());
        // A pipeline without commands is refused.
        if entries.is_empty() {
            return Ok(records);
        }
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        for entry in &entries {
            pipe.hmget(self.keys.job(&entry.app, entry.job), &LISTED);
        }
        let values: Vec<RedisResult<Vec<Option<String>>>> =
            pipe.query_async(&mut self.connection.clone()).await?;
        for (entry, values) in entries.into_iter().zip(values) {
            let record = values.map_err(Error::from).and_then(|values| {
                let fields = LISTED.into_iter().zip(values);
                self.jobs().record_of((&entry.app, entry.job), fields)
            });
            match record {
                Ok(Some(record)) => {
                    if entry.state.is_some_and(|state| state != record.state) {
                        stale.push(entry);
                    }
                    records.insert(entry.job, record);
                }
                Ok(None) => stale.push(entry),
                Err(error) if error.is_damage() => {
                    tracing::debug!(job.id = %entry.job, %error, "a job's record cannot be listed");
                }
                Err(error) => return Err(error),
            }
        }
        self.unlist(&stale).await?;
        Ok(records)
    }

    /// Removes entries that their records do not confirm, unless they do by now.
    async fn unlist(self, entries: &[&Entry]) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut invocation = self.scripts.unlist_stale.prepare_invoke();
        invocation.key(self.keys.job_list());
        for entry in entries {
            invocation
                .key(self.keys.job(&entry.app, entry.job))
                .arg(&entry.text)
                .arg(entry.state.map_or("", JobState::as_str));
        }
        Ok(invocation
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Removes ended jobs whose retention is over from the list, at most [`TRIM_BATCH`]. Returns
    /// whether more may be due.
    pub async fn trim(self) -> Result<bool, Error> {
        let (list, trims) = (self.keys.job_list(), self.keys.job_list_trims());
        let now_ms = self.now_ms().await?;
        let mut connection = self.connection.clone();
        let due: Vec<String> = connection
            .zrangebyscore_limit(&trims, "-inf", now_ms, 0, TRIM_BATCH)
            .await?;
        if due.is_empty() {
            return Ok(false);
        }
        let mut invocation = self.scripts.trim_job_list.prepare_invoke();
        invocation.key(list).key(&trims);
        for member in &due {
            let mut words = member.split(' ');
            let (job, app) = (words.next(), words.next());
            let job = job.and_then(|job| job.parse().ok());
            let app = app.and_then(|app| AppId::parse(app).ok());
            match job.zip(app) {
                Some((job, app)) => {
                    invocation.key(self.keys.job(&app, job)).arg(member);
                }
                None => {
                    let _: () = connection.zrem(&trims, member).await?;
                }
            }
        }
        let _: () = invocation.invoke_async(&mut connection).await?;
        Ok(isize::try_from(due.len()).is_ok_and(|due| due == TRIM_BATCH))
    }
}
