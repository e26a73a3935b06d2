//! What a readiness probe means. Pure.

use super::client::Error;

/// The meaning of a probe.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// The server takes jobs.
    Ready,
    /// It does not; the reason, for operators.
    NotReady(String),
    /// It is silent while all its places are taken: a server of one thread.
    Busy,
}

impl Readiness {
    /// Returns the meaning of a probe at `path` that was answered with a status, or failed.
    /// `is_full`: the server runs as many jobs as it takes at a time.
    pub(super) fn of(probe: Result<u16, &Error>, path: &str, is_full: bool) -> Self {
        match probe {
            // Without such a path, a server is ready once it answers.
            Ok(200..=299 | 404 | 405 | 501) => Self::Ready,
            Ok(status) => Self::NotReady(format!("responds {status} at /{path}")),
            Err(Error::Timeout(_)) if is_full => Self::Busy,
            Err(error) => Self::NotReady(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_server_without_a_readiness_path_is_ready_once_it_answers() {
        for status in [200, 204, 404, 405] {
            let readiness = Readiness::of(Ok(status), "health", false);
            assert_eq!(readiness, Readiness::Ready, "{status}");
        }
        for status in [302, 401, 500, 503] {
            let reason = Readiness::NotReady(format!("responds {status} at /health"));
            assert_eq!(Readiness::of(Ok(status), "health", false), reason);
        }
    }

    #[test]
    fn silence_is_tolerated_only_while_every_place_is_taken() {
        let silent = Error::Timeout(Duration::from_secs(1));
        let of = |is_full| Readiness::of(Err(&silent), "health", is_full);
        assert_eq!(of(true), Readiness::Busy);
        assert!(matches!(of(false), Readiness::NotReady(_)));
        let dead = Error::Unreachable("refused".to_owned());
        let dead = Readiness::of(Err(&dead), "health", true);
        assert!(matches!(dead, Readiness::NotReady(_)));
    }
}
