//! What a newer build writes and this one does not know: fields are carried where a message or
//! record is written again, and ignored elsewhere; a value that only describes is ignored.
//!
//! What decides a job's fate has no such fallback, and a new value of it needs a new version of the
//! protocol ([`crate::protocol`]): states, outcomes, kinds of flows.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::{Map, Value};

/// Fields of a newer build, by name.
pub type UnknownFields = Map<String, Value>;

/// Deserializes a value, or returns the default instead of one that this build does not know.
pub(crate) fn known_or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// Deserializes a list or set without the values that this build does not know.
pub(crate) fn known_items<'de, D, T, C>(deserializer: D) -> Result<C, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
    C: FromIterator<T> + IntoIterator<Item = T>,
{
    let items = Vec::<Value>::deserialize(deserializer)?.into_iter();
    let known = items.filter_map(|item| serde_json::from_value(item).ok());
    Ok(known.collect())
}

/// Removes the fields of an object that are not among `known`. Other values remain as they are.
pub(crate) fn retain_known(value: &mut Value, known: &[&str]) {
    if let Value::Object(fields) = value {
        fields.retain(|name, _| known.contains(&name.as_str()));
    }
}
