//! Whether a runner of the app can load a job's model.

use std::collections::BTreeSet;
use std::time::Duration;

use warmq_types::hint::{Hint, HintSource};
use warmq_types::job::JobSpec;

use super::SubmitError;
use crate::apps::App;

/// Refuses a job whose model no runner of the app lists: `listed`, any if `None`. If the app waits
/// for such models, the job gets that long to start.
///
/// # Errors
/// [`SubmitError::UnknownModel`].
pub(super) fn require_listed(
    job: &mut JobSpec,
    app: &App,
    listed: Option<&BTreeSet<Hint>>,
) -> Result<(), SubmitError> {
    let (Some(model), Some(listed)) = (&job.hint, listed) else {
        return Ok(());
    };
    if listed.contains(model) {
        return Ok(());
    }
    match app.config.wait_for_model {
        Some(wait) => {
            job.start_timeout_ms = Some(shorter_ms(job.start_timeout_ms, wait));
            Ok(())
        }
        None => Err(SubmitError::UnknownModel {
            model: model.clone(),
            field: match &job.hint_source {
                Some(HintSource::Input { .. }) => app.hint_path().cloned(),
                _ => None,
            },
            known: listed.iter().map(ToString::to_string).collect(),
        }),
    }
}

fn shorter_ms(ms: Option<u64>, time: Duration) -> u64 {
    let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    ms.map_or(time_ms, |ms| ms.min(time_ms))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use warmq_config::AppConfig;
    use warmq_types::ids::AppId;

    use super::*;

    fn check(model: &str, listed: &[&str], wait: Option<u64>) -> Result<JobSpec, SubmitError> {
        let listed: BTreeSet<Hint> = listed
            .iter()
            .map(|name| Hint::parse(name).unwrap())
            .collect();
        let config = AppConfig {
            wait_for_model: wait.map(Duration::from_secs),
            ..AppConfig::default()
        };
        let app = App::for_tests(config);
        let listed = Some(&listed).filter(|listed| !listed.is_empty());
        let mut job = JobSpec::new(AppId::parse("a/b").unwrap(), Value::Null);
        job.hint = Some(Hint::parse(model).unwrap());
        job.start_timeout_ms = Some(5000);
        require_listed(&mut job, &app, listed).map(|()| job)
    }

    #[test]
    fn an_unknown_model_is_refused_with_the_known_ones() {
        assert!(check("flux", &["flux", "sdxl"], None).is_ok());
        let error = check("fluxx", &["flux", "sdxl"], None).unwrap_err();
        assert!(error.to_string().contains("flux, sdxl"), "{error}");
    }

    #[test]
    fn an_app_without_a_list_runs_any_model() {
        assert!(check("flux", &[], None).is_ok());
    }

    #[test]
    fn a_job_waits_for_a_model_that_may_appear_until_it_must_start() {
        let timeout_ms = |wait| {
            let job = check("flux", &["sdxl"], Some(wait));
            job.unwrap().start_timeout_ms
        };
        assert_eq!((timeout_ms(3), timeout_ms(60)), (Some(3000), Some(5000)));
    }
}
