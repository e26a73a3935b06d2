//! Draws rectangles, pictures and text on an image.

use image::RgbImage;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// Red, green, blue.
pub(super) type Rgb = [u8; 3];

/// Font size and weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Title,
    Body,
    Bold,
}

impl Style {
    fn font(self) -> (FontWeight, RasterHeight) {
        match self {
            Self::Title => (FontWeight::Bold, RasterHeight::Size24),
            Self::Body => (FontWeight::Regular, RasterHeight::Size16),
            Self::Bold => (FontWeight::Bold, RasterHeight::Size16),
        }
    }

    /// Returns the width of a character, pixels.
    pub(super) fn advance(self) -> u32 {
        let (weight, height) = self.font();
        u32::try_from(get_raster_width(weight, height)).unwrap_or(1)
    }
}

/// An image to draw on, clipped at its edges.
pub(super) struct Canvas {
    image: RgbImage,
}

impl Canvas {
    pub(super) fn new(width: u32, height: u32, paper: Rgb) -> Self {
        Self {
            image: RgbImage::from_pixel(width, height, image::Rgb(paper)),
        }
    }

    pub(super) fn into_image(self) -> RgbImage {
        self.image
    }

    pub(super) fn fill(&mut self, x: u32, y: u32, width: u32, height: u32, colour: Rgb) {
        for (x, y) in cells(width, height).map(|(dx, dy)| (x + dx, y + dy)) {
            self.mix(x, y, colour, u8::MAX);
        }
    }

    pub(super) fn picture(&mut self, x: u32, y: u32, picture: &RgbImage) {
        image::imageops::replace(&mut self.image, picture, i64::from(x), i64::from(y));
    }

    /// Writes `text` with its upper left corner at (x, y). Characters outside the font become
    /// question marks.
    pub(super) fn text(&mut self, x: u32, y: u32, text: &str, style: Style, ink: Rgb) {
        let (weight, height) = style.font();
        for (index, letter) in (0..).zip(text.chars()) {
            let glyph =
                get_raster(letter, weight, height).or_else(|| get_raster('?', weight, height));
            let left = x + index * style.advance();
            for (row, coverage) in (0..).zip(glyph.iter().flat_map(|glyph| glyph.rows())) {
                for (column, coverage) in (0..).zip(coverage) {
                    self.mix(left + column, y + row, ink, *coverage);
                }
            }
        }
    }

    /// Writes `word` in a pill of colour `fill`, 20 pixels high, and returns the pill's width.
    pub(super) fn pill(&mut self, x: u32, y: u32, word: &str, ink: Rgb, fill: Rgb) -> u32 {
        const HEIGHT: u32 = 20;
        const PADDING: u32 = 8;
        let letters = u32::try_from(word.chars().count()).unwrap_or(0);
        let width = letters * Style::Bold.advance() + 2 * PADDING;
        let radius = f64::from(HEIGHT) / 2.0;
        for (dx, dy) in cells(width, HEIGHT) {
            // Distance of the pixel's centre from the line between the centres of the round ends.
            let (px, py) = (f64::from(dx) + 0.5, f64::from(dy) + 0.5);
            let nearest = px.clamp(radius, f64::from(width) - radius);
            let distance = (px - nearest).hypot(py - radius);
            let coverage = (radius - distance + 0.5).clamp(0.0, 1.0);
            self.mix(x + dx, y + dy, fill, (coverage * 255.0) as u8);
        }
        self.text(x + PADDING, y + 2, word, Style::Bold, ink);
        width
    }

    /// Blends `colour` over a pixel, with alpha `coverage` of 255.
    fn mix(&mut self, x: u32, y: u32, colour: Rgb, coverage: u8) {
        if let Some(pixel) = self.image.get_pixel_mut_checked(x, y) {
            let share = u16::from(coverage);
            for (below, above) in pixel.0.iter_mut().zip(colour) {
                let sum = u16::from(*below) * (255 - share) + u16::from(above) * share;
                *below = (sum / 255) as u8;
            }
        }
    }
}

fn cells(width: u32, height: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..height).flat_map(move |y| (0..width).map(move |x| (x, y)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_over_the_edge_is_no_error() {
        let mut canvas = Canvas::new(10, 10, [0; 3]);
        canvas.fill(5, 5, 100, 100, [255; 3]);
        canvas.text(0, 0, "outside, über and über", Style::Title, [1; 3]);
        assert_eq!(canvas.into_image().get_pixel(9, 9).0, [255; 3]);
    }
}
