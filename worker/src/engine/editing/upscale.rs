//! Enlarges a picture: each output pixel is a weighted mean of the input pixels around it.

use image::imageops::{self, FilterType};
use image::{DynamicImage, RgbaImage};
use schemars::JsonSchema;
use serde::Deserialize;
use warmq_types::job::JobError;

use super::Edit;
use crate::engine::input;
use crate::engine::picture::MAX_SIDE;

/// Input of the upscale engine: a picture and a factor. The result is a PNG of 8 bits per channel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "UpscaleInput")]
pub struct Upscale {
    /// The URL of a PNG, JPEG or WebP of up to 65 MiB and 4096 x 4096 pixels, or a data: URI.
    #[expect(dead_code, reason = "the runner fetches the file that it names")]
    image_url: String,
    /// The factor for width and height; the result has at most 4096 x 4096 pixels. Aliases: `scale`
    /// and `upscale_factor`.
    #[serde(default = "default_factor", alias = "scale", alias = "upscale_factor")]
    #[schemars(range(min = 1, max = 4), extend("x-warmq-aliases" = ["scale", "upscale_factor"]))]
    factor: u32,
    /// The interpolation: `lanczos3` uses 6 x 6 pixels and is the sharpest, `catmull_rom` 4 x 4
    /// with less ringing at hard edges, `nearest` one, which keeps the squares of pixel art.
    #[serde(default)]
    #[schemars(extend("default" = "lanczos3"))]
    filter: Filter,
}

// Without doc comments, which would turn the schema's enum into a choice of schemas, and its
// validation error into one that lists no values.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Filter {
    #[default]
    Lanczos3,
    CatmullRom,
    Nearest,
}

fn default_factor() -> u32 {
    2
}

impl Edit for Upscale {
    fn check(&self) -> Result<(), JobError> {
        input::check_range(&["factor"], self.factor, 1..=4).map(drop)
    }

    fn apply(&self, picture: DynamicImage) -> Result<DynamicImage, JobError> {
        let [width, height] =
            [picture.width(), picture.height()].map(|side| side.saturating_mul(self.factor));
        if width.max(height) > MAX_SIDE {
            let message = format!(
                "{} times {} x {} pixels exceeds {MAX_SIDE} x {MAX_SIDE}",
                self.factor,
                picture.width(),
                picture.height()
            );
            return Err(JobError::field(&["factor"], "image_too_large", message));
        }
        let filter = match self.filter {
            Filter::Lanczos3 => FilterType::Lanczos3,
            Filter::CatmullRom => FilterType::CatmullRom,
            Filter::Nearest => FilterType::Nearest,
        };
        if !picture.color().has_alpha() {
            let resized = imageops::resize(&picture.into_rgb8(), width, height, filter);
            return Ok(resized.into());
        }
        // The colour of a transparent pixel must not bleed into its neighbours.
        let mut rgba = picture.into_rgba8();
        weigh_by_alpha(&mut rgba);
        let mut resized = imageops::resize(&rgba, width, height, filter);
        undo_weights(&mut resized);
        Ok(resized.into())
    }
}

/// Weighs colours by their alpha.
fn weigh_by_alpha(picture: &mut RgbaImage) {
    for pixel in picture.pixels_mut() {
        let [colours @ .., alpha] = &mut pixel.0;
        let alpha = u16::from(*alpha);
        for colour in colours {
            *colour = clamped((u16::from(*colour) * alpha + 127) / 255);
        }
    }
}

fn undo_weights(picture: &mut RgbaImage) {
    for pixel in picture.pixels_mut() {
        let [colours @ .., alpha] = &mut pixel.0;
        let alpha = u16::from(*alpha);
        for colour in colours {
            // Transparent pixels have no colour.
            let weighed = u16::from(*colour) * 255 + alpha / 2;
            *colour = clamped(weighed.checked_div(alpha).unwrap_or(0));
        }
    }
}

fn clamped(value: u16) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::picture::testing::noise;
    use image::{Rgb, RgbImage, Rgba};
    use serde_json::{Value, json};

    fn upscale(mut options: Value) -> Upscale {
        options["image_url"] = "https://example.com/a.png".into();
        input::parse(&options).unwrap()
    }

    #[test]
    fn the_result_is_that_many_times_larger() {
        for filter in ["lanczos3", "catmull_rom", "nearest"] {
            for factor in 1..=4 {
                let made = upscale(json!({"factor": factor, "filter": filter}))
                    .apply(noise(6, 5).into())
                    .unwrap();
                assert_eq!((made.width(), made.height()), (6 * factor, 5 * factor));
            }
        }
        let by_default = upscale(json!({})).apply(noise(6, 5).into()).unwrap();
        assert_eq!(by_default.width(), 12);
        let as_fal_says = upscale(json!({"scale": 3})).apply(noise(6, 5).into());
        assert_eq!(as_fal_says.unwrap().width(), 18);
    }

    #[test]
    fn a_plain_picture_stays_plain_and_once_as_large_is_the_same() {
        let plain = RgbImage::from_pixel(7, 3, Rgb([10, 200, 90]));
        let made = upscale(json!({"factor": 4})).apply(plain.into()).unwrap();
        assert!(
            made.into_rgb8()
                .pixels()
                .all(|pixel| *pixel == Rgb([10, 200, 90]))
        );
        let same = upscale(json!({"factor": 1})).apply(noise(9, 4).into());
        assert_eq!(same.unwrap(), noise(9, 4).into());
    }

    #[test]
    fn edges_are_smooth_by_lanczos_and_steps_by_the_nearest_pixel() {
        let edge = RgbImage::from_fn(8, 8, |x, _| Rgb(if x < 4 { [0; 3] } else { [200; 3] }));
        let made = |filter| {
            let edit = upscale(json!({"factor": 2, "filter": filter}));
            edit.apply(edge.clone().into()).unwrap().into_rgb8()
        };
        let nearest = made("nearest");
        assert!(nearest.pixels().all(|pixel| [0, 200].contains(&pixel[0])));
        let lanczos = made("lanczos3");
        assert!((1..200).contains(&lanczos.get_pixel(7, 8)[0]));
        assert!((1..200).contains(&lanczos.get_pixel(8, 8)[0]));
    }

    #[test]
    fn transparent_pixels_give_no_colour_to_their_neighbours() {
        let picture = RgbaImage::from_fn(8, 8, |x, _| {
            Rgba(if x < 4 {
                [0, 255, 0, 0]
            } else {
                [200, 10, 10, 255]
            })
        });
        let made = upscale(json!({})).apply(picture.into()).unwrap();
        let made = made.into_rgba8();
        assert_eq!(made.get_pixel(0, 8)[3], 0);
        assert_eq!(*made.get_pixel(15, 8), Rgba([200, 10, 10, 255]));
        let seen = made.pixels().filter(|pixel| pixel[3] > 32);
        for Rgba([red, green, _, _]) in seen {
            assert!(*red > 180 && *green < 20, "red {red}, green {green}");
        }
    }

    #[test]
    fn what_becomes_too_large_names_the_factor() {
        let wide = || RgbImage::new(1025, 1).into();
        let error = upscale(json!({"factor": 4})).apply(wide()).unwrap_err();
        assert_eq!(
            (error.status, error.error_type.as_str()),
            (422, "image_too_large")
        );
        assert_eq!(error.detail[0].loc, ["body", "factor"]);
        assert!(upscale(json!({"factor": 3})).apply(wide()).is_ok());
        for factor in [0, 5, u32::MAX] {
            let error = upscale(json!({"factor": factor})).check().unwrap_err();
            assert_eq!(error.detail[0].loc, ["body", "factor"]);
        }
    }

    #[test]
    fn the_schema_has_the_bounds_and_the_filters() {
        let schema = input::schema::<Upscale>();
        let factor = &schema["properties"]["factor"];
        assert_eq!(
            (&factor["minimum"], &factor["maximum"], &factor["default"]),
            (&json!(1), &json!(4), &json!(2))
        );
        assert_eq!(schema["required"], json!(["image_url"]));
        let filter = &schema["properties"]["filter"];
        assert_eq!(
            filter["enum"],
            json!(["lanczos3", "catmull_rom", "nearest"])
        );
        assert_eq!(filter["default"], "lanczos3");
    }
}
