//! The ranges of the job list that contain the jobs of a filter. Pure.

use warmq_types::ids::{AppId, JobId};
use warmq_types::state::JobState;

use super::JobFilter;

/// Length of an id as text, bytes.
const ID_BYTES: usize = 36;

/// Sorts after every id, which have hexadecimal digits.
const AFTER_IDS: &str = "g";

/// The entries with one prefix, in order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    prefix: String,
    /// State of all its jobs.
    state: Option<JobState>,
    /// App of all its jobs; otherwise each entry ends with it.
    app: Option<AppId>,
}

/// An entry of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) job: JobId,
    pub(super) app: AppId,
    /// The state in which the job is listed.
    pub(super) state: Option<JobState>,
    /// The whole entry.
    pub(super) text: String,
}

impl Range {
    /// Returns the bounds of the entries before `bound`, the upper one first.
    pub(super) fn bounds(&self, bound: Option<&str>) -> (String, String) {
        let Self { prefix, .. } = self;
        let upper = bound.unwrap_or(AFTER_IDS);
        (format!("({prefix}{upper}"), format!("[{prefix}"))
    }

    /// Parses an entry; `None` if it is damaged.
    pub(super) fn parse(&self, text: String) -> Option<Entry> {
        let rest = text.strip_prefix(&self.prefix)?;
        let (id, rest) = rest.split_at_checked(ID_BYTES)?;
        Some(Entry {
            job: id.parse().ok()?,
            app: match &self.app {
                Some(app) => app.clone(),
                None => AppId::parse(rest.strip_prefix(' ')?).ok()?,
            },
            state: self.state,
            text,
        })
    }
}

/// Returns the alternatives to find the jobs of a filter: each is a set of ranges that together
/// contain all of them, and perhaps others.
pub(super) fn alternatives(filter: &JobFilter) -> Vec<Vec<Range>> {
    let states = match filter.states.is_empty() {
        true => &JobState::ALL[..],
        false => &filter.states,
    };
    let by_state = states.iter().map(|state| Range {
        prefix: match &filter.app {
            Some(app) => format!("a={app} {state} "),
            None => format!("s={state} "),
        },
        state: Some(*state),
        app: filter.app.clone(),
    });
    let of_all_states = |prefix| {
        vec![Range {
            prefix,
            state: None,
            app: None,
        }]
    };
    let owner = filter.owner.as_ref().map(|owner| format!("k={owner} "));
    let hint = filter.hint.as_ref().map(|hint| {
        let hint = hint.as_str();
        format!("h={}:{hint}", hint.len())
    });
    let others = owner.into_iter().chain(hint).map(of_all_states);
    std::iter::once(by_state.collect()).chain(others).collect()
}

/// Merges the newest entries of several ranges into the newest `limit` of all.
pub(super) fn merge(ranges: impl IntoIterator<Item = Vec<Entry>>, limit: usize) -> Vec<Entry> {
    let mut all: Vec<Entry> = ranges.into_iter().flatten().collect();
    all.sort_by_key(|entry| std::cmp::Reverse(entry.job));
    all.truncate(limit);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01a20246-c1ed-705f-a519-4e83f0a3d2c9";

    fn prefixes(filter: &JobFilter) -> Vec<Vec<String>> {
        let prefixes = |ranges: Vec<Range>| ranges.into_iter().map(|range| range.prefix).collect();
        alternatives(filter).into_iter().map(prefixes).collect()
    }

    #[test]
    fn every_filter_has_ranges_of_its_own() {
        let all = prefixes(&JobFilter::default());
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].len(), JobState::ALL.len());
        let filter = JobFilter {
            states: vec![JobState::Failed],
            app: Some("a/b".parse().unwrap()),
            owner: Some("alice-1".parse().unwrap()),
            hint: Some("größe".parse().unwrap()),
            before: None,
        };
        let expected = [["a=a/b failed "], ["k=alice-1 "], ["h=7:größe"]];
        assert_eq!(prefixes(&filter), expected);
    }

    #[test]
    fn an_entry_is_parsed_and_lies_between_the_bounds_of_its_range() {
        let filter = JobFilter {
            hint: Some("a b".parse().unwrap()),
            ..JobFilter::default()
        };
        let range = alternatives(&filter).remove(1).remove(0);
        let text = format!("h=3:a b{ID} x/y");
        let (upper, lower) = range.bounds(None);
        assert!(lower[1..] < text[..] && text[..] < upper[1..]);
        let (upper, _) = range.bounds(Some(ID));
        assert!(text[..] > upper[1..], "the bound itself is excluded");
        let entry = range.parse(text).unwrap();
        assert_eq!(
            (entry.job.to_string(), entry.app.as_str()),
            (ID.to_owned(), "x/y")
        );
        for damaged in ["h=3:a b", "h=3:a bx", "s=queued x"] {
            assert_eq!(range.parse(damaged.to_owned()), None);
        }
    }

    #[test]
    fn the_newest_of_all_ranges_come_first() {
        let entry = |id: &str| Entry {
            job: id.parse().unwrap(),
            app: "a/b".parse().unwrap(),
            state: None,
            text: String::new(),
        };
        let id = |last: char| format!("{}{last}", &ID[..35]);
        let merged = merge(
            [
                vec![entry(&id('9')), entry(&id('3'))],
                vec![entry(&id('5')), entry(&id('1'))],
            ],
            3,
        );
        let ids: Vec<String> = merged.iter().map(|entry| entry.job.to_string()).collect();
        assert_eq!(ids, [id('9'), id('5'), id('3')]);
    }
}
