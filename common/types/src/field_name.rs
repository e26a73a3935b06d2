//! Errors about the names of an input's fields, in the words of router and workers alike.

use serde_json::Value;

use crate::job::FieldError;
use crate::text::shortened;

/// Length limit of a list of known fields, bytes.
const MAX_LIST_BYTES: usize = 800;

/// Length limit of an unknown field's name: a longer one is shortened, and compared with no other.
const MAX_NAME_BYTES: usize = 64;

/// Returns the error of a field that the object at `loc` does not have. Its type is the one that
/// FastAPI, and so fal, gives.
pub fn unknown(mut loc: Vec<Value>, field: &str, known: &[&str]) -> FieldError {
    let meant = match nearest(field, known) {
        Some(nearest) => format!(": did you mean '{nearest}'?"),
        None => String::new(),
    };
    let known = match known {
        [] => "no field is known here".to_owned(),
        known => shortened(
            format!("known fields: {}", known.join(", ")),
            MAX_LIST_BYTES,
        ),
    };
    let field = shortened(field.to_owned(), MAX_NAME_BYTES);
    let msg = format!("unknown field '{field}'{meant} ({known})");
    loc.push(field.into());
    FieldError {
        loc,
        msg,
        error_type: "extra_forbidden".to_owned(),
    }
}

/// Returns the error of a field that is given under two of its names.
pub fn repeated(field: &str, alias: &str) -> FieldError {
    FieldError {
        loc: vec!["body".into(), alias.into()],
        msg: format!("'{field}' and '{alias}' are names of one field: give one of them"),
        error_type: "value_error".to_owned(),
    }
}

/// Returns the known field that was most likely meant, if one is near.
fn nearest<'a>(field: &str, known: &[&'a str]) -> Option<&'a str> {
    if field.len() > MAX_NAME_BYTES {
        return None;
    }
    let by_distance = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(field, known), *known));
    let (distance, nearest) = by_distance.min()?;
    (distance <= 1 + field.len() / 4).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(field: &str, known: &[&str]) -> String {
        unknown(vec!["body".into()], field, known).msg
    }

    #[test]
    fn an_unknown_field_comes_with_the_nearest_one_and_all_that_are_known() {
        let known = ["guidance_scale", "prompt", "width"];
        assert_eq!(
            sentence("guidance_scal", &known),
            "unknown field 'guidance_scal': did you mean 'guidance_scale'? \
             (known fields: guidance_scale, prompt, width)"
        );
        assert_eq!(
            sentence("tile", &known),
            "unknown field 'tile' (known fields: guidance_scale, prompt, width)"
        );
        assert_eq!(
            sentence("a", &[]),
            "unknown field 'a' (no field is known here)"
        );
    }

    #[test]
    fn an_error_is_short_however_long_the_name_is() {
        let error = unknown(vec!["body".into()], &"é".repeat(1 << 20), &["prompt"]);
        assert!(serde_json::to_string(&error).unwrap().len() < 400);
    }
}
