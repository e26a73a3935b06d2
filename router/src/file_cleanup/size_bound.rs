//! Which files exceed the size bound of an app (`max_files`). Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use warmq_types::ids::AppId;

/// Granularity of ages: files of one such interval go together, so that only sums are remembered
/// of any number of files.
const INTERVAL: Duration = Duration::from_secs(60);

/// The sizes of an app's files, by the number of the interval of their modification.
type Sizes = BTreeMap<u64, u64>;

/// The sizes of the files of apps with a bound.
#[derive(Debug, Default)]
pub(super) struct FileSizes(HashMap<AppId, Sizes>);

impl FileSizes {
    /// Counts a file of a job.
    pub(super) fn add(&mut self, app: AppId, modified: SystemTime, bytes: u64) {
        let sizes = self.0.entry(app).or_default();
        *sizes.entry(interval(modified)).or_default() += bytes;
    }

    /// Returns the apps that exceed their bounds, each with the time before which files were
    /// modified that must go.
    pub(super) fn excess(
        &self,
        max_bytes: impl Fn(&AppId) -> Option<u64>,
    ) -> Vec<(AppId, SystemTime)> {
        let excess = |(app, sizes): (&AppId, &Sizes)| {
            let until = excess_until(sizes, max_bytes(app)?)?;
            Some((app.clone(), UNIX_EPOCH + INTERVAL * (until as u32)))
        };
        self.0.iter().filter_map(excess).collect()
    }
}

/// Returns the interval before which files must go; `None` if the sum is within the bound.
fn excess_until(sizes: &Sizes, max_bytes: u64) -> Option<u64> {
    let mut sum = 0;
    for (interval, bytes) in sizes.iter().rev() {
        sum += bytes;
        if sum > max_bytes {
            return Some(interval + 1);
        }
    }
    None
}

fn interval(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() / INTERVAL.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(number: u64) -> SystemTime {
        UNIX_EPOCH + INTERVAL * (number as u32)
    }

    #[test]
    fn the_oldest_files_above_the_bound_go() {
        let (bounded, other) = (AppId::parse("a/b").unwrap(), AppId::parse("a/c").unwrap());
        let mut sizes = FileSizes::default();
        for number in 0..10 {
            sizes.add(bounded.clone(), minute(number), 60);
            sizes.add(bounded.clone(), minute(number) + INTERVAL / 2, 40);
            sizes.add(other.clone(), minute(number), 1000);
        }
        let excess = |max_bytes| sizes.excess(|app| (*app == bounded).then_some(max_bytes));
        assert_eq!(excess(1000), []);
        assert_eq!(excess(999), [(bounded.clone(), minute(1))]);
        assert_eq!(excess(350), [(bounded.clone(), minute(7))]);
        assert_eq!(excess(0), [(bounded.clone(), minute(10))]);
    }
}
