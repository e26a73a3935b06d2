//! Which files are deleted. Pure.

use std::time::Duration;

use warmq_config::{AppConfig, KeepFor};
use warmq_types::ids::AppId;

use super::owner::Owner;

/// Files of jobs are kept for this long: an outage of Redis may delay records, and results are
/// fetched.
pub(super) const MIN_AGE: Duration = Duration::from_secs(3600);

/// The same for inputs: a message in RabbitMQ may outlive the record of its job, and a dead letter
/// may be redriven late.
const MIN_INPUT_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Parts of uploads and probes are used within the hour.
const MIN_PART_AGE: Duration = Duration::from_secs(24 * 3600);

/// Returns whether a file of this age may be deleted if nothing needs it. `config`: settings of an
/// app.
pub(super) fn is_old(
    owner: &Owner,
    age: Duration,
    keep_uploads: KeepFor,
    config: impl FnOnce(&AppId) -> AppConfig,
) -> bool {
    match owner {
        Owner::Job(app, _) => age >= MIN_AGE && !config(app).keep_files.includes(age),
        Owner::Input(..) => age >= MIN_INPUT_AGE,
        Owner::Upload(_) => !keep_uploads.includes(age),
        Owner::UploadPart | Owner::Probe => age >= MIN_PART_AGE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warmq_types::ids::JobId;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn files_of_expired_jobs_are_deleted_after_an_hour_or_as_the_app_says() {
        let job = Owner::Job(AppId::parse("a/b").unwrap(), JobId::generate());
        let is_deleted = |age, keep_files| {
            let config = AppConfig {
                keep_files,
                ..AppConfig::default()
            };
            is_old(&job, age, KeepFor::Forever, |_| config)
        };
        let default = AppConfig::default().keep_files;
        assert!(!is_deleted(HOUR / 2, default));
        assert!(is_deleted(HOUR, default));
        let day = KeepFor::Time(24 * HOUR);
        assert!(!is_deleted(23 * HOUR, day) && is_deleted(24 * HOUR, day));
        assert!(!is_deleted(100_000 * HOUR, KeepFor::Forever));
    }

    #[test]
    fn uploads_parts_and_inputs_have_ages_of_their_own() {
        let app = || AppId::parse("a/b").unwrap();
        let day = KeepFor::Time(24 * HOUR);
        let is_deleted = |owner: Owner, age| is_old(&owner, age, day, |_| AppConfig::default());
        let upload = || Owner::Upload("id".to_owned());
        assert!(!is_deleted(upload(), 23 * HOUR) && is_deleted(upload(), 24 * HOUR));
        assert!(is_deleted(Owner::UploadPart, 24 * HOUR));
        assert!(!is_deleted(Owner::Probe, 23 * HOUR));
        let input = || Owner::Input(app(), JobId::generate());
        assert!(!is_deleted(input(), 29 * 24 * HOUR) && is_deleted(input(), 30 * 24 * HOUR));
    }
}
