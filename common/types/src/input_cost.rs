//! The cost of a job as far as its input determines it, so that a router can refuse what no runner
//! would compute. Pure.

use serde::Deserialize;
use serde_json::Value;

use crate::job::FieldError;

/// Keyword of a schema that bounds the product of some numbers of an input.
pub const COST_KEYWORD: &str = "x-warmq-cost";

#[derive(Deserialize)]
struct Cost {
    limit: f64,
    factors: Vec<Factor>,
}

#[derive(Deserialize)]
struct Factor {
    /// JSON pointers of fields that have the number; the first that exists counts.
    fields: Vec<String>,
    /// The least number of inputs without such a field.
    default: f64,
}

/// A number of an input.
struct Given<'a> {
    pointer: &'a str,
    number: f64,
}

impl Factor {
    fn given(&self, input: &Value) -> Option<Given<'_>> {
        self.fields.iter().find_map(|pointer| {
            let number = input.pointer(pointer)?.as_f64()?;
            Some(Given { pointer, number })
        })
    }
}

/// Returns the error of an input whose numbers exceed the schema's limit, at the first of them.
pub fn excess(schema: &Value, input: &Value) -> Option<FieldError> {
    let cost = Cost::deserialize(schema.get(COST_KEYWORD)?).ok()?;
    let given: Vec<Option<Given<'_>>> = (cost.factors.iter())
        .map(|factor| factor.given(input))
        .collect();
    let number = |(factor, given): (&Factor, &Option<Given<'_>>)| {
        given.as_ref().map_or(factor.default, |given| given.number)
    };
    let product: f64 = cost.factors.iter().zip(&given).map(number).product();
    let given: Vec<&Given<'_>> = given.iter().flatten().collect();
    let first = given.first().filter(|_| product > cost.limit)?;
    let name = |pointer: &str| pointer.trim_start_matches('/').replace('/', ".");
    let numbers = given
        .iter()
        .map(|given| format!("{} {}", name(given.pointer), given.number));
    let fields = first.pointer.split('/').skip(1).map(Value::from);
    Some(FieldError {
        loc: std::iter::once("body".into()).chain(fields).collect(),
        msg: format!(
            "{} exceed the limit of {}: lower one of them",
            numbers.collect::<Vec<_>>().join(" × "),
            cost.limit
        ),
        error_type: "out_of_range".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn error(input: &Value) -> Option<FieldError> {
        let schema = json!({COST_KEYWORD: {"limit": 1000, "factors": [
            {"fields": ["/steps", "/num_inference_steps"], "default": 1},
            {"fields": ["/width", "/image_size/width"], "default": 10},
            {"fields": ["/strength"], "default": 0.5},
        ]}});
        excess(&schema, input)
    }

    #[test]
    fn an_input_is_refused_if_its_own_numbers_exceed_the_limit() {
        for fits in [
            json!({}),
            json!({"steps": 200}),
            json!({"steps": 20, "width": 100}),
            json!({"steps": "many", "width": 100}),
            json!(null),
        ] {
            assert_eq!(error(&fits), None, "{fits}");
        }
        let nested = json!({"num_inference_steps": 20, "image_size": {"width": 101}});
        let refused = error(&nested).unwrap();
        assert_eq!(refused.loc, ["body", "num_inference_steps"]);
        assert_eq!(
            refused.msg,
            "num_inference_steps 20 × image_size.width 101 exceed the limit of 1000: lower one of \
             them"
        );
        let strong = json!({"steps": 11, "width": 100, "strength": 1.0});
        assert!(error(&strong).is_some());
    }

    #[test]
    fn a_schema_without_a_readable_limit_refuses_nothing() {
        for schema in [
            json!({}),
            json!(true),
            json!({COST_KEYWORD: {"limit": "low"}}),
        ] {
            assert_eq!(excess(&schema, &json!({"steps": 1e9})), None);
        }
    }
}
