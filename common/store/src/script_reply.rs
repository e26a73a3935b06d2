//! Parses the replies of scripts.

use std::str::FromStr;

use redis::RedisResult;

use super::{Error, Unavailable};

pub(super) fn words(reply: &[String]) -> Vec<&str> {
    reply.iter().map(String::as_str).collect()
}

/// Returns a script's reply about one job. A record that no script can process is a reply too,
/// since retrying is useless.
pub(super) fn about_a_job(reply: RedisResult<Vec<String>>) -> Result<Vec<String>, Error> {
    match reply.map_err(Error::from) {
        Err(error @ Error::Damaged { .. }) => {
            tracing::error!(%error, "a job's record cannot be used");
            Ok(vec!["damaged".to_owned()])
        }
        reply => reply,
    }
}

pub(super) fn number<T: FromStr>(text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|_| Error::damaged("a script's reply", format_args!("'{text}' is not a number")))
}

pub(super) fn unavailable(reply: &[&str]) -> Result<Unavailable, Error> {
    match reply {
        ["missing"] => Ok(Unavailable::Missing),
        ["gone"] => Ok(Unavailable::Gone),
        ["damaged"] => Ok(Unavailable::Damaged),
        ["parked", remaining] => Ok(Unavailable::Parked {
            remaining_ms: number(remaining)?,
        }),
        ["terminal", state] => state
            .parse()
            .map(Unavailable::Terminal)
            .map_err(|error| Error::damaged("a script's reply", error)),
        ["leased", remaining] => Ok(Unavailable::Leased {
            remaining_ms: number(remaining)?,
        }),
        ["lost"] => Ok(Unavailable::Lost),
        ["spent"] => Ok(Unavailable::Spent),
        other => Err(Error::damaged(
            "a script's reply",
            format_args!("{other:?} is unknown"),
        )),
    }
}
