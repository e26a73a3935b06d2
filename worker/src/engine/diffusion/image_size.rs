//! `image_size`, as fal's image apps have it: a name, or width and height.

use schemars::JsonSchema;
use serde::Deserialize;
use warmq_types::job::JobError;

use crate::engine::input::check_range;

/// A picture's size: the name of one, or its sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected square_hd, square, portrait_4_3, portrait_16_9, landscape_4_3, \
                 landscape_16_9, or an object of width and height"
)]
pub(super) enum ImageSize {
    Named(NamedSize),
    Sides(Sides),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[rustfmt::skip]
pub(super) enum NamedSize {
    SquareHd,
    Square,
    #[serde(rename = "portrait_4_3")] Portrait4x3,
    #[serde(rename = "portrait_16_9")] Portrait16x9,
    #[serde(rename = "landscape_4_3")] Landscape4x3,
    #[serde(rename = "landscape_16_9")] Landscape16x9,
}

/// Pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sides {
    #[schemars(range(min = 8, max = 2048), extend("multipleOf" = 8))]
    pub(super) width: u32,
    #[schemars(range(min = 8, max = 2048), extend("multipleOf" = 8))]
    pub(super) height: u32,
}

impl ImageSize {
    pub(super) fn sides(self) -> Sides {
        let (width, height) = match self {
            Self::Sides(sides) => return sides,
            Self::Named(NamedSize::SquareHd) => (1024, 1024),
            Self::Named(NamedSize::Square) => (512, 512),
            Self::Named(NamedSize::Portrait4x3) => (768, 1024),
            Self::Named(NamedSize::Portrait16x9) => (576, 1024),
            Self::Named(NamedSize::Landscape4x3) => (1024, 768),
            Self::Named(NamedSize::Landscape16x9) => (1024, 576),
        };
        Sides { width, height }
    }

    /// Returns the path of a side, `width` or `height`, in the input.
    pub(super) fn path(self, side: &'static str) -> Vec<&'static str> {
        match self {
            Self::Named(_) => vec!["image_size"],
            Self::Sides(_) => vec!["image_size", side],
        }
    }
}

/// Checks the bounds of the schema.
///
/// # Errors
/// A 422 that names the side at `path`.
pub(super) fn check_side(path: &[&str], pixels: u32) -> Result<(), JobError> {
    check_range(path, pixels, 8..=2048)?;
    match pixels % 8 {
        0 => Ok(()),
        _ => {
            let message = format!("{pixels} is not a multiple of 8");
            Err(JobError::field(path, "multiple_of", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_size_is_one_of_fals_names_or_two_sides() {
        for (size, sides) in [
            (json!("square_hd"), (1024, 1024)),
            (json!("square"), (512, 512)),
            (json!("portrait_4_3"), (768, 1024)),
            (json!("portrait_16_9"), (576, 1024)),
            (json!("landscape_4_3"), (1024, 768)),
            (json!("landscape_16_9"), (1024, 576)),
            (json!({"width": 64, "height": 128}), (64, 128)),
        ] {
            let size: ImageSize = serde_json::from_value(size).unwrap();
            let Sides { width, height } = size.sides();
            assert_eq!((width, height), sides);
        }
        for size in [json!("large"), json!({"width": 64}), json!(64)] {
            let error = serde_json::from_value::<ImageSize>(size).unwrap_err();
            assert!(error.to_string().contains("landscape_16_9"), "{error}");
        }
    }
}
