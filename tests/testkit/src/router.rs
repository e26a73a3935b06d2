//! A router process.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::process::Process;

/// Timeout of the start, on a busy machine.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// The line that a router prints once it accepts connections.
const ANNOUNCEMENT: &str = "listening on ";

/// A running router, which accepts connections. Dereferences to its [`Process`].
#[derive(Debug)]
pub struct Router {
    pub(crate) process: Process,
    pub(crate) url: String,
}

impl Router {
    /// Returns `http://127.0.0.1:PORT`, without a trailing slash.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Returns the address in a router's output. Incomplete lines do not count.
pub(crate) fn announced_url(output: &str) -> Option<String> {
    output
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .find_map(|line| line.trim().strip_prefix(ANNOUNCEMENT))
        .map(|url| url.trim_end_matches('/').to_owned())
}

impl Deref for Router {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Router {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_only_from_a_complete_line() {
        assert_eq!(announced_url("listening on http://127.0.0.1:80"), None);
        assert_eq!(
            announced_url("hello\nlistening on http://127.0.0.1:8080\n").as_deref(),
            Some("http://127.0.0.1:8080")
        );
    }
}
