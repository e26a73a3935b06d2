//! Servers of a test's own: it may kill and freeze them, and give them settings that nobody else would like.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`redis`](PrivateRedis) | a Redis that writes every change to disk before it answers |
//! | [`rabbitmq`](PrivateRabbit) | a RabbitMQ node, with the port mapper that Erlang wants beside it |
//! | `port` | ports that are still free when a killed server comes back |
//!
//! A server that the system runs is never touched: each of these has a folder, ports and (RabbitMQ) a node name, a
//! cookie and a port mapper of its own, and goes with its handle.

mod port;
mod rabbitmq;
mod redis;

use std::path::{Path, PathBuf};
use std::time::Duration;

use warmq_types::server_url::ServerUrl;

use crate::error::Error;

pub use port::free as free_port;
pub use rabbitmq::PrivateRabbit;
pub use redis::PrivateRedis;

/// How long a server may take to answer: RabbitMQ needs 5 s of a processor for it, which may be busy.
const READY_TIMEOUT: Duration = Duration::from_secs(90);

/// The path of a server's program: the first of `paths` that is there, else `program` in the search path.
fn program(program: &'static str, paths: &[&str], package: &'static str) -> Result<PathBuf, Error> {
    let known = paths.iter().map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let searched = std::env::split_paths(&path).map(|folder| folder.join(program));
    known
        .chain(searched)
        .find(|candidate| is_program(candidate))
        .ok_or(Error::NoServer { program, package })
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A URL that was put together here.
fn url(text: &str) -> Result<ServerUrl, Error> {
    text.parse().map_err(|reason| Error::Setting {
        what: "a private server's URL",
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_server_is_reported_with_its_package() {
        let error = program("no-such-server", &["/no/where"], "some-package").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("apt-get install some-package"), "{text}");
    }

    #[test]
    fn a_known_path_wins_over_the_search_path() {
        let found = program("sh", &["/no/where", "/bin/sh"], "dash").unwrap();
        assert_eq!(found, Path::new("/bin/sh"));
    }
}
