//! Private servers, which a test can kill, freeze and configure.
//!
//! | module | contents |
//! | --- | --- |
//! | [`redis`](PrivateRedis) | a Redis that syncs every change to disk |
//! | [`rabbitmq`](PrivateRabbit) | a RabbitMQ node with its own port mapper |
//! | `port` | ports that stay free while a server is down |
//!
//! They share nothing with the system's servers: each has a folder, ports and (RabbitMQ) a node
//! name, a cookie and a port mapper of its own, and ends with its handle.

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

/// Timeout of a start: RabbitMQ needs 5 s of processor time.
const READY_TIMEOUT: Duration = Duration::from_secs(90);

/// Returns the path of a server's program: the first of `paths` that exists, otherwise `program` in
/// `PATH`.
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

/// Parses a URL that was made here.
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
