//! Converts JSON to CEL values and back, and the load of apps to CEL values.

use std::collections::HashMap;

use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional, CelString,
    CelUInt,
};
use cel::common::value::Val;
use serde_json::{Map, Value as Json};

use super::MAX_VALUES;
use crate::request::AppLoadEstimate;

/// Maximum nesting of a template's result, the same as that of inputs.
const MAX_DEPTH: usize = 100;

/// Maximum text in a template's result, bytes.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// Approximate memory of a CEL value without its text, bytes.
const VALUE_BYTES: usize = 64;

/// Size of JSON as CEL values.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct ValueSize {
    pub(super) values: usize,
    /// Approximate memory.
    pub(super) bytes: usize,
}

impl ValueSize {
    /// Converts `json` to a CEL value that borrows its texts, and adds its size. `None` above
    /// [`MAX_VALUES`].
    pub(super) fn val<'a>(&mut self, json: &'a Json) -> Option<Box<dyn Val + 'a>> {
        if self.values == MAX_VALUES {
            return None;
        }
        self.values += 1;
        self.bytes += VALUE_BYTES;
        Some(match json {
            Json::Null => Box::new(CelNull),
            Json::Bool(boolean) => Box::new(CelBool::from(*boolean)),
            // Whole numbers are int, so that they can be written as 1024 and not 1024.0.
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Box::new(CelInt::from(number)),
                (None, Some(number)) => Box::new(CelUInt::from(number)),
                (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
            },
            Json::String(text) => {
                self.bytes += text.len();
                string(text)
            }
            Json::Array(items) => {
                let items: Option<Vec<_>> = items.iter().map(|item| self.val(item)).collect();
                Box::new(CelList::from(items?))
            }
            Json::Object(fields) => {
                let fields: Option<HashMap<_, _>> = fields
                    .iter()
                    .map(|(name, value)| {
                        self.bytes += name.len();
                        Some((CelMapKey::from(name.as_str()), self.val(value)?))
                    })
                    .collect();
                Box::new(CelMap::from(fields?))
            }
        })
    }
}

pub(super) fn string<'a>(text: &'a str) -> Box<dyn Val + 'a> {
    Box::new(CelString::from(text))
}

/// Returns a CEL map.
pub(super) fn map<'a>(
    entries: impl Iterator<Item = (&'a str, Box<dyn Val + 'a>)>,
) -> Box<dyn Val + 'a> {
    let entries: HashMap<CelMapKey<'a>, Box<dyn Val + 'a>> = entries
        .map(|(name, value)| (CelMapKey::from(name), value))
        .collect();
    Box::new(CelMap::from(entries))
}

/// A field of `apps['owner/name']`, and its value.
type AppField = (&'static str, fn(&AppLoadEstimate) -> Box<dyn Val>);

/// Fields of an app.
pub(super) const APP_FIELDS: [AppField; 6] = [
    ("cost", |app| double(app.cost)),
    ("wait_s", |app| double(app.wait_s)),
    ("run_s", |app| double(app.run_s)),
    ("runners", |app| int(app.runners)),
    ("idle", |app| int(app.idle)),
    ("queued", |app| int(app.queued)),
];

/// Converts the load of an app to a CEL value.
pub(super) fn app_load(app: &AppLoadEstimate) -> Box<dyn Val> {
    map(APP_FIELDS.iter().map(|(name, field)| (*name, field(app))))
}

fn double(number: f64) -> Box<dyn Val> {
    Box::new(CelDouble::from(number))
}

fn int(number: u64) -> Box<dyn Val> {
    Box::new(CelInt::from(i64::try_from(number).unwrap_or(i64::MAX)))
}

/// Remaining size of a template's result.
#[derive(Debug)]
pub(crate) struct OutputLimits {
    values: usize,
    text: usize,
    levels: usize,
}

impl Default for OutputLimits {
    fn default() -> Self {
        Self {
            values: MAX_VALUES,
            text: MAX_TEXT_BYTES,
            levels: MAX_DEPTH,
        }
    }
}

impl OutputLimits {
    /// Counts one value with `text` bytes of text.
    ///
    /// # Errors
    /// The result is too large.
    pub(crate) fn take(&mut self, text: usize) -> Result<(), String> {
        let values = self.values.checked_sub(1);
        self.values =
            values.ok_or_else(|| format!("the result has more than {MAX_VALUES} values"))?;
        let text = self.text.checked_sub(text);
        self.text = text.ok_or_else(|| {
            let most = MAX_TEXT_BYTES >> 20;
            format!("the result has more than {most} MiB of text")
        })?;
        Ok(())
    }

    /// Calls `fill` one level deeper.
    pub(crate) fn deeper<T, E: From<String>>(
        &mut self,
        fill: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let levels = self.levels.checked_sub(1);
        self.levels = levels
            .ok_or_else(|| format!("the result is nested more than {MAX_DEPTH} levels deep"))?;
        let filled = fill(self);
        self.levels += 1;
        filled
    }

    /// Converts a CEL value to JSON; `None` for `optional.none()`, which lists and maps omit.
    ///
    /// # Errors
    /// The value has no JSON representation, or the result is too large.
    pub(super) fn json<'v>(&mut self, val: &(dyn Val + 'v)) -> Result<Option<Json>, String> {
        if let Some(optional) = val.downcast_ref::<CelOptional<'v>>() {
            return optional.option().map_or(Ok(None), |val| self.json(val));
        }
        if let Some(items) = val.downcast_ref::<CelList<'v>>() {
            self.take(0)?;
            let items = items.inner().iter();
            let items = self.deeper(|limits| {
                let items = items.filter_map(|item| limits.json(item.as_ref()).transpose());
                items.collect::<Result<Vec<_>, String>>()
            });
            return Ok(Some(Json::Array(items?)));
        }
        if let Some(fields) = val.downcast_ref::<CelMap<'v>>() {
            self.take(0)?;
            let fields = self.deeper(|limits| limits.fields(fields))?;
            return Ok(Some(Json::Object(fields)));
        }
        let json = if let Some(text) = val.downcast_ref::<CelString<'v>>() {
            self.take(text.inner().len())?;
            return Ok(Some(text.inner().into()));
        } else if let Some(number) = val.downcast_ref::<CelInt>() {
            (*number.inner()).into()
        } else if let Some(number) = val.downcast_ref::<CelUInt>() {
            (*number.inner()).into()
        } else if let Some(number) = val.downcast_ref::<CelDouble>() {
            match number.inner().is_finite() {
                true => (*number.inner()).into(),
                false => return Err(format!("{} is not a JSON number", number.inner())),
            }
        } else if let Some(boolean) = val.downcast_ref::<CelBool>() {
            (*boolean.inner()).into()
        } else if val.downcast_ref::<CelNull>().is_some() {
            Json::Null
        } else {
            let kind = val.get_type().name();
            return Err(format!("a value of type {kind} has no JSON representation"));
        };
        self.take(0)?;
        Ok(Some(json))
    }

    fn fields(&mut self, fields: &CelMap<'_>) -> Result<Map<String, Json>, String> {
        let mut json = Map::new();
        for (key, value) in fields.inner() {
            let CelMapKey::String(name) = key else {
                return Err("an object key is not a string".to_owned());
            };
            if let Some(value) = self.json(value.as_ref())? {
                let name = name.inner();
                self.text = self.text.saturating_sub(name.len());
                json.insert(name.to_owned(), value);
            }
        }
        Ok(json)
    }
}

#[cfg(test)]
mod tests {
    use cel::Value;
    use serde_json::json;

    use super::super::tests::evaluate;
    use super::super::{Failure, MAX_VALUES};

    #[test]
    fn an_input_with_too_many_values_is_rejected_only_if_it_is_read() {
        let many = json!(vec![0; MAX_VALUES]);
        let failure = evaluate("size(input) > 0", &many, &[]).unwrap_err();
        assert!(matches!(failure, Failure::Invalid(reason) if reason.contains("10000")));
        let few = json!(vec![0; MAX_VALUES - 1]);
        assert_eq!(
            evaluate("input.all(x, x == 0)", &few, &[]),
            Ok(Value::Bool(true))
        );
    }
}
