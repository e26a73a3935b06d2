//! A sheet of rows: a prompt, and the pictures of a pipeline's steps, not enlarged.

use image::{Rgb as Pixel, RgbImage, RgbaImage};

use super::canvas::{Canvas, Rgb, Style};
use super::{FAINT, FRAME, GAP, HEADER, Heading, INK, LINE, MARGIN, PAPER, wrap};

/// A prompt, and the pictures of the steps.
#[derive(Debug, Clone)]
pub struct Row {
    /// The prompt.
    pub prompt: String,
    /// A picture per step.
    pub pictures: Vec<RgbaImage>,
}

/// Width of the column of prompts, pixels.
const PROMPTS: u32 = 184;
const PROMPT_LINES: u32 = 4;
/// Height of the line with the steps' names, pixels.
const NAMES: u32 = 28;
/// Side of a square of the checkerboard behind transparent pictures.
const SQUARE: u32 = 8;
const LIGHT: Rgb = [0xff, 0xff, 0xff];
const DARK: Rgb = [0xd0, 0xd4, 0xda];

/// Draws the sheet, with `steps` as headings of the columns.
pub fn draw(heading: &Heading, steps: &[&str], rows: &[Row]) -> RgbImage {
    let width = |step| {
        let pictures = rows.iter().filter_map(|row: &Row| row.pictures.get(step));
        pictures.map(RgbaImage::width).max().unwrap_or(0)
    };
    let height = |row: &Row| row.pictures.iter().map(RgbaImage::height).max();
    let widths: Vec<u32> = (0..steps.len()).map(width).collect();
    let heights: Vec<u32> = rows.iter().map(|row| height(row).unwrap_or(0)).collect();
    let width = 2 * MARGIN + PROMPTS + widths.iter().map(|width| GAP + width).sum::<u32>();
    let below = heights.iter().map(|height| height + GAP).sum::<u32>();
    let height = 2 * MARGIN + HEADER + NAMES + below.saturating_sub(GAP);
    let mut canvas = Canvas::new(width, height, PAPER);
    canvas.text(MARGIN, MARGIN, &heading.title, Style::Title, INK);
    canvas.text(MARGIN, MARGIN + 32, &heading.subtitle, Style::Body, FAINT);

    let lefts = widths.iter().scan(MARGIN + PROMPTS + GAP, |next, width| {
        let left = *next;
        *next += width + GAP;
        Some(left)
    });
    let columns: Vec<(u32, u32)> = lefts.zip(widths.iter().copied()).collect();
    for ((x, _), step) in columns.iter().zip(steps) {
        canvas.text(*x, MARGIN + HEADER, step, Style::Bold, FAINT);
    }
    let mut top = MARGIN + HEADER + NAMES;
    for (row, height) in rows.iter().zip(heights) {
        let text = wrap::wrap(&row.prompt, PROMPTS / Style::Body.advance(), PROMPT_LINES);
        for (line, text) in (0..).zip(&text) {
            canvas.text(MARGIN, top + line * LINE, text, Style::Body, INK);
        }
        for ((x, across), picture) in columns.iter().zip(&row.pictures) {
            let (width, height) = picture.dimensions();
            let x = x + (across - width) / 2;
            canvas.fill(x - 1, top - 1, width + 2, height + 2, FRAME);
            canvas.picture(x, top, &on_board(picture));
        }
        top += height + GAP;
    }
    canvas.into_image()
}

/// Draws a picture over a checkerboard, visible where the picture is transparent.
fn on_board(picture: &RgbaImage) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let board = match (x / SQUARE + y / SQUARE) % 2 {
            0 => LIGHT,
            _ => DARK,
        };
        let [colours @ .., alpha] = picture.get_pixel(x, y).0;
        let alpha = u16::from(alpha);
        let mut seen = board;
        for (below, above) in seen.iter_mut().zip(colours) {
            let sum = u16::from(*below) * (255 - alpha) + u16::from(above) * alpha;
            *below = (sum / 255) as u8;
        }
        Pixel(seen)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgba;

    #[test]
    fn each_picture_has_its_own_size_and_the_board_is_seen_through_it() {
        let heading = Heading {
            title: "pipeline".to_owned(),
            subtitle: "two steps".to_owned(),
        };
        let row = |prompt: &str| Row {
            prompt: prompt.to_owned(),
            pictures: vec![
                RgbaImage::from_pixel(20, 20, Rgba([200, 0, 0, 255])),
                RgbaImage::from_pixel(60, 40, Rgba([0; 4])),
            ],
        };
        let sheet = draw(&heading, &["drawn", "cut"], &[row("a"), row("b")]);
        let first = MARGIN + PROMPTS + GAP;
        let second = first + 20 + GAP;
        assert_eq!(sheet.width(), second + 60 + MARGIN);
        for row in 0..2 {
            let top = MARGIN + HEADER + NAMES + row * (40 + GAP);
            let at = |x, y| sheet.get_pixel(x, top + y).0;
            assert_eq!(at(first, 0), [200, 0, 0]);
            assert_eq!(at(first, 30), PAPER);
            assert_eq!((at(second, 0), at(second + SQUARE, 0)), (LIGHT, DARK));
            assert_eq!(at(second, SQUARE), DARK);
        }
    }

    #[test]
    fn a_sheet_without_rows_is_still_a_sheet() {
        let heading = Heading {
            title: String::new(),
            subtitle: String::new(),
        };
        assert!(draw(&heading, &["drawn"], &[]).height() > 0);
    }
}
