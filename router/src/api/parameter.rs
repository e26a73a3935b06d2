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

/// Returns the start of a value, for an error.
pub(super) fn quoted(text: &str) -> String {
    text.chars().take(40).collect()
}

pub(super) fn invalid(parameter: &str, error: impl Display) -> ApiError {
    ApiError::bad_request(format!("query parameter '{parameter}': {error}"))
}
