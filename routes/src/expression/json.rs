//! JSON as values of CEL.

use std::collections::HashMap;

use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt,
};
use cel::common::value::Val;
use serde_json::Value as Json;

/// JSON as a value of CEL that borrows its texts. None once no values are left.
pub(super) fn val<'a>(json: &'a Json, values_left: &mut usize) -> Option<Box<dyn Val + 'a>> {
    *values_left = values_left.checked_sub(1)?;
    Some(match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(truth) => Box::new(CelBool::from(*truth)),
        // Whole numbers are int, so that they can be written as 1024 and not 1024.0.
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Box::new(CelInt::from(number)),
            (None, Some(number)) => Box::new(CelUInt::from(number)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Json::String(text) => string(text),
        Json::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| val(item, values_left)).collect();
            Box::new(CelList::from(items?))
        }
        Json::Object(fields) => {
            let fields: Option<HashMap<_, _>> = fields
                .iter()
                .map(|(name, value)| {
                    Some((CelMapKey::from(name.as_str()), val(value, values_left)?))
                })
                .collect();
            Box::new(CelMap::from(fields?))
        }
    })
}

pub(super) fn string<'a>(text: &'a str) -> Box<dyn Val + 'a> {
    Box::new(CelString::from(text))
}

#[cfg(test)]
mod tests {
    use cel::Value;
    use serde_json::json;

    use super::super::tests::asked;
    use super::super::{Failure, MOST_VALUES};

    #[test]
    fn an_input_of_too_many_values_is_refused_only_where_it_is_looked_at() {
        let many = json!(vec![0; MOST_VALUES]);
        let failure = asked("size(input) > 0", &many, &[]).unwrap_err();
        assert!(matches!(failure, Failure::Wrong(reason) if reason.contains("10000")));
        let few = json!(vec![0; MOST_VALUES - 1]);
        assert_eq!(
            asked("input.all(x, x == 0)", &few, &[]),
            Ok(Value::Bool(true))
        );
    }
}
