//! What scripts answer, read.

use std::str::FromStr;

use super::{Error, Unavailable};

pub(super) fn words(reply: &[String]) -> Vec<&str> {
    reply.iter().map(String::as_str).collect()
}

pub(super) fn number<T: FromStr>(text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|_| Error::damaged("a script's reply", format_args!("'{text}' is no number")))
}

pub(super) fn unavailable(reply: &[&str]) -> Result<Unavailable, Error> {
    match reply {
        ["missing"] => Ok(Unavailable::Missing),
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
