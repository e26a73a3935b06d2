//! Query parameters: parsing, and errors that name them.

use std::fmt::Display;
use std::str::FromStr;

use super::ApiError;

/// Parses an optional parameter.
///
/// # Errors
/// The value is invalid.
pub(super) fn parsed<T>(parameter: &str, text: Option<String>) -> Result<Option<T>, ApiError>
where
    T: FromStr,
    T::Err: Display,
{
    text.map(|text| text.parse().map_err(|error| invalid(parameter, error)))
        .transpose()
}

/// Parses comma-separated names of some of `all`; returns these in the order of `all`.
///
/// # Errors
/// A name is unknown.
pub(super) fn some_of<T: Copy>(
    parameter: &str,
    text: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<Vec<T>, ApiError> {
    let wanted: Vec<&str> = text.split(',').collect();
    let known: Vec<&str> = all.iter().copied().map(name).collect();
    match wanted.iter().find(|wanted| !known.contains(wanted)) {
        Some(unknown) => {
            let (unknown, known) = (quoted(unknown), known.join(", "));
            Err(invalid(
                parameter,
                format!("'{unknown}' is not one of {known}"),
            ))
        }
        None => {
            let some = all
                .iter()
                .copied()
                .filter(|one| wanted.contains(&name(*one)));
            Ok(some.collect())
        }
    }
}

/// Returns the start of a value, for an error.
pub(super) fn quoted(text: &str) -> String {
    text.chars().take(40).collect()
}

pub(super) fn invalid(parameter: &str, error: impl Display) -> ApiError {
    ApiError::bad_request(format!("query parameter '{parameter}': {error}"))
}
