//! The request of a job.

use url::Url;
use warmq_types::job::JobSpec;
use warmq_types::traceparent::TRACEPARENT;

/// Header: id of the job.
pub(super) const REQUEST_ID: &str = "x-fal-request-id";

/// Header: hint of the job, if it has one.
pub(super) const RUNNER_HINT: &str = "x-fal-runner-hint";

/// Header: app and path that the job was submitted to.
pub(super) const ENDPOINT: &str = "x-fal-endpoint";

/// First segments of paths that belong to the contract and are no endpoints.
const RESERVED: [&str; 3] = ["cancel", "health", "hints"];

/// Returns the URL of a job: its own path, otherwise `default_path`; `None` if jobs cannot have
/// this path.
pub(super) fn url(base: &Url, default_path: &str, job: &JobSpec) -> Option<Url> {
    if job.path.is_empty() {
        return Some(below(base, default_path));
    }
    let mut segments = job.path.split('/').filter(|segment| !segment.is_empty());
    let first = segments.clone().next()?;
    let climbs = segments.any(|segment| matches!(segment, "." | ".."));
    (!climbs && !RESERVED.contains(&first)).then(|| below(base, &job.path))
}

/// Returns the URL of `path`, without a leading slash, below `base`.
pub(super) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    // Cannot fail: the base is an http URL. Segments are encoded, so none of them ends the path.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path.split('/'));
    }
    url
}

/// Returns the headers of a job's request. Values with control characters are omitted: headers
/// cannot have them.
pub(super) fn headers(job: &JobSpec) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        (REQUEST_ID, job.id.to_string()),
        (ENDPOINT, endpoint(job)),
        (TRACEPARENT, traceparent(job)),
    ];
    headers.extend(job.hint.iter().map(|hint| (RUNNER_HINT, hint.to_string())));
    headers.retain(|(_, value)| !value.contains(char::is_control));
    headers
}

fn endpoint(job: &JobSpec) -> String {
    match job.path.as_str() {
        "" => job.app.to_string(),
        path => format!("{}/{path}", job.app),
    }
}

/// Returns the job's position in its trace; without one, a position whose trace is the job's id, so
/// that all attempts are in one trace.
fn traceparent(job: &JobSpec) -> String {
    if let Some(trace) = job.trace {
        return trace.to_string();
    }
    let trace = job.id.to_string().replace('-', "");
    // The random half of a version 7 UUID is never zero.
    let span = trace.get(16..).unwrap_or_default();
    format!("00-{trace}-{span}-01")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use warmq_types::hint::Hint;
    use warmq_types::ids::AppId;

    use super::*;

    fn job(path: &str) -> JobSpec {
        JobSpec {
            path: path.to_owned(),
            ..JobSpec::new(AppId::parse("acme/sdxl").unwrap(), Value::Null)
        }
    }

    #[test]
    fn a_job_is_posted_to_its_own_path_or_to_the_default() {
        let base = Url::parse("http://h:9000/base").unwrap();
        let posted = |path| url(&base, "generate", &job(path)).map(String::from);
        let expected = |url: &str| Some(url.to_owned());
        assert_eq!(posted(""), expected("http://h:9000/base/generate"));
        assert_eq!(
            posted("image/edit"),
            expected("http://h:9000/base/image/edit")
        );
        assert_eq!(posted("a?b#c"), expected("http://h:9000/base/a%3Fb%23c"));
        let root = url(&Url::parse("http://h").unwrap(), "", &job(""));
        assert_eq!(root.map(String::from), expected("http://h/"));
    }

    #[test]
    fn paths_that_leave_the_base_or_belong_to_the_contract_are_refused() {
        let base = Url::parse("http://h:9000/base").unwrap();
        for path in [
            "../admin",
            "a/../../admin",
            ".",
            "cancel/1",
            "/health",
            "hints",
        ] {
            assert_eq!(url(&base, "", &job(path)), None, "{path}");
        }
    }

    #[test]
    fn headers_name_job_hint_and_endpoint() {
        let mut job = job("edit");
        job.hint = Some(Hint::parse("sdxl").unwrap());
        let headers = headers(&job);
        let value = |name| headers.iter().find(|(found, _)| *found == name);
        assert_eq!(value(RUNNER_HINT).unwrap().1, "sdxl");
        assert_eq!(value(ENDPOINT).unwrap().1, "acme/sdxl/edit");
        let trace = &value(TRACEPARENT).unwrap().1;
        let lengths: Vec<usize> = trace.split('-').map(str::len).collect();
        assert_eq!(lengths, [2, 32, 16, 2]);
        job.hint = Some(Hint::parse("a\nb").unwrap());
        job.path = "a\0b".to_owned();
        assert_eq!(super::headers(&job).len(), 2);
    }
}
