//! The contact sheet: every picture, enlarged, with its prompt and its runner.

mod canvas;
pub mod rows;
mod wrap;

use image::RgbImage;
use image::imageops::{FilterType, resize};

use canvas::{Canvas, Rgb, Style};

/// A picture and its caption.
#[derive(Debug, Clone)]
pub struct Tile {
    /// The picture, of any size.
    pub picture: RgbImage,
    /// The job's number.
    pub number: usize,
    /// The prompt.
    pub prompt: String,
    /// The runner.
    pub runner: String,
    /// Whether the run was warm.
    pub warm: bool,
}

/// The heading of the sheet.
#[derive(Debug, Clone)]
pub struct Heading {
    /// Title, in large letters.
    pub title: String,
    /// Subtitle, one line.
    pub subtitle: String,
}

const COLUMNS: u32 = 6;
/// Side of an enlarged picture, pixels: three times the tiny models' own.
const SIDE: u32 = 192;
const GAP: u32 = 28;
const MARGIN: u32 = 40;
const HEADER: u32 = 76;
const LINE: u32 = 18;
const CAPTION_LINES: u32 = 2;
/// The picture, a space, two lines of prompt, a space, the badge's line.
const TILE_HEIGHT: u32 = SIDE + 10 + CAPTION_LINES * LINE + 6 + 20;

const PAPER: Rgb = [0x15, 0x17, 0x1c];
const FRAME: Rgb = [0x33, 0x37, 0x40];
const INK: Rgb = [0xf1, 0xf3, 0xf5];
const FAINT: Rgb = [0x9a, 0xa3, 0xaf];
const WARM: Rgb = [0xff, 0xa9, 0x4d];
const COLD: Rgb = [0x74, 0xc0, 0xfc];

/// Draws the sheet.
pub fn draw(heading: &Heading, tiles: &[Tile]) -> RgbImage {
    let count = u32::try_from(tiles.len()).unwrap_or(u32::MAX);
    let columns = COLUMNS.min(count.max(1));
    let rows = count.div_ceil(columns);
    let width = 2 * MARGIN + columns * SIDE + (columns - 1) * GAP;
    let height = 2 * MARGIN + HEADER + rows * TILE_HEIGHT + rows.saturating_sub(1) * GAP;
    let mut canvas = Canvas::new(width, height, PAPER);
    canvas.text(MARGIN, MARGIN, &heading.title, Style::Title, INK);
    canvas.text(MARGIN, MARGIN + 32, &heading.subtitle, Style::Body, FAINT);
    for (index, tile) in (0..).zip(tiles) {
        let x = MARGIN + index % columns * (SIDE + GAP);
        let y = MARGIN + HEADER + index / columns * (TILE_HEIGHT + GAP);
        draw_tile(&mut canvas, x, y, tile);
    }
    canvas.into_image()
}

fn draw_tile(canvas: &mut Canvas, x: u32, y: u32, tile: &Tile) {
    let enlarged = resize(&tile.picture, SIDE, SIDE, FilterType::CatmullRom);
    canvas.fill(x - 1, y - 1, SIDE + 2, SIDE + 2, FRAME);
    canvas.picture(x, y, &enlarged);
    let columns = SIDE / Style::Body.advance();
    let lines = wrap::wrap(&tile.prompt, columns, CAPTION_LINES);
    for (line, text) in (0..).zip(&lines) {
        canvas.text(x, y + SIDE + 10 + line * LINE, text, Style::Body, INK);
    }
    let base = y + SIDE + 10 + CAPTION_LINES * LINE + 6;
    let (word, colour) = if tile.warm {
        ("warm", WARM)
    } else {
        ("cold", COLD)
    };
    let pill = canvas.pill(x, base, word, PAPER, colour);
    let origin = format!("{:02} {}", tile.number, tile.runner);
    canvas.text(x + pill + 8, base + 2, &origin, Style::Body, FAINT);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    /// Set `WARMQ_SHEET=/tmp/sheet.png` to save the sheet.
    #[test]
    fn a_sheet_of_synthetic_pictures_has_every_picture_at_its_position() {
        let colour = |number: usize| image::Rgb([number as u8 * 10, 255 - number as u8 * 10, 128]);
        let tiles: Vec<Tile> = plan::jobs()
            .iter()
            .map(|planned| Tile {
                picture: RgbImage::from_pixel(64, 64, colour(planned.number)),
                number: planned.number,
                prompt: planned.prompt.to_owned(),
                runner: ["runner-a", "runner-b", "runner-c"][planned.number % 3].to_owned(),
                warm: planned.number > 5,
            })
            .collect();
        let heading = Heading {
            title: "warmq demo".to_owned(),
            subtitle: "24 jobs, 3 models, 3 runners: 19 warm, 5 cold".to_owned(),
        };
        let sheet = draw(&heading, &tiles);
        for (index, tile) in (0u32..).zip(&tiles) {
            let x = MARGIN + index % COLUMNS * (SIDE + GAP) + SIDE / 2;
            let y = MARGIN + HEADER + index / COLUMNS * (TILE_HEIGHT + GAP) + SIDE / 2;
            assert_eq!(
                *sheet.get_pixel(x, y),
                colour(tile.number),
                "{}",
                tile.number
            );
        }
        if let Some(path) = std::env::var_os("WARMQ_SHEET") {
            sheet.save(path).unwrap();
        }
    }

    #[test]
    fn a_sheet_of_nothing_is_still_a_sheet() {
        let heading = Heading {
            title: String::new(),
            subtitle: String::new(),
        };
        assert!(draw(&heading, &[]).width() > 0);
    }
}
