//! Line charts as SVG. Labels are text, so no fonts are needed.

use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (820, 440);
const LEGEND_WIDTH: u32 = 190;
const TEXT: (&str, u32) = ("sans-serif", 14);
const TITLE: (&str, u32) = ("sans-serif", 18);
const INK: RGBColor = RGBColor(55, 60, 67);
const GRID: RGBColor = RGBColor(226, 229, 233);

/// An axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Label, with the unit.
    pub label: &'static str,
    /// Range.
    pub range: (f64, f64),
    /// Positions of the ticks, within the range.
    pub ticks: Vec<f64>,
    /// Whether the axis is logarithmic.
    pub log: bool,
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from_px, to_px): (i32, i32)) -> i32 {
        let scale = |value: f64| if self.log { value.ln() } else { value };
        let (from, to) = (scale(self.range.0), scale(self.range.1));
        let part = (scale(*value) - from) / (to - from);
        from_px + (part * f64::from(to_px - from_px)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.0..self.range.1
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        value.to_string()
    }
}

/// A point of a line.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Horizontal coordinate.
    pub x: f64,
    /// Vertical coordinate.
    pub y: f64,
    /// Marker, if any.
    pub mark: Option<Mark>,
}

/// A marker of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A disc.
    Filled,
    /// A ring.
    Hollow,
}

/// A line.
#[derive(Debug, Clone)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// Colour.
    pub color: RGBColor,
    /// Width, pixels.
    pub width: u32,
    /// Whether the line is dashed.
    pub dashed: bool,
    /// Points, from left to right.
    pub points: Vec<Point>,
}

/// A chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Title.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// Lines in the order of the legend; the first is drawn on top.
    pub lines: Vec<Line>,
    /// Notes below the legend, line by line.
    pub notes: Vec<&'static str>,
}

/// The chart cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Error {
    path: String,
    reason: String,
}

impl Chart {
    /// Draws the chart into a file.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        self.draw(path).map_err(|error| Error {
            path: path.display().to_string(),
            reason: error.to_string(),
        })
    }

    fn draw(&self, path: &Path) -> Result<(), Box<dyn std::error::Error + '_>> {
        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        // White, so that the chart is readable on dark pages.
        root.fill(&WHITE)?;
        let (plot, legend) = root.split_horizontally(SIZE.0 - LEGEND_WIDTH);
        let mut chart = ChartBuilder::on(&plot)
            .caption(&self.title, TITLE.into_font().color(&INK))
            .margin(14)
            .x_label_area_size(46)
            .y_label_area_size(58)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        chart
            .configure_mesh()
            .x_desc(self.x.label)
            .y_desc(self.y.label)
            .label_style(TEXT.into_font().color(&INK))
            .axis_desc_style(TEXT.into_font().color(&INK))
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for line in self.lines.iter().rev() {
            let style = line.color.stroke_width(line.width);
            let place = |point: &Point| (point.x, point.y);
            let places = line.points.iter().map(place);
            match line.dashed {
                true => chart.draw_series(DashedLineSeries::new(places, 6, 5, style))?,
                false => chart.draw_series(LineSeries::new(places, style))?,
            };
            for point in &line.points {
                let radius = line.width + 1;
                match point.mark {
                    None => continue,
                    Some(Mark::Filled) => chart.draw_series([Circle::new(
                        place(point),
                        radius,
                        line.color.filled(),
                    )])?,
                    Some(Mark::Hollow) => chart.draw_series([
                        Circle::new(place(point), radius, WHITE.filled()),
                        Circle::new(place(point), radius, line.color.stroke_width(2)),
                    ])?,
                };
            }
        }
        self.draw_legend(&legend)?;
        root.present()?;
        Ok(())
    }

    fn draw_legend<D: DrawingBackend>(
        &self,
        area: &DrawingArea<D, Shift>,
    ) -> Result<(), DrawingAreaErrorKind<D::ErrorType>> {
        let style = TEXT
            .into_text_style(area)
            .color(&INK)
            .pos(Pos::new(HPos::Left, VPos::Center));
        let mut y = 62;
        for line in &self.lines {
            let stroke = line.color.stroke_width(line.width);
            let dashes: &[(i32, i32)] = match line.dashed {
                true => &[(0, 6), (10, 16), (20, 26)],
                false => &[(0, 26)],
            };
            for (from, to) in dashes {
                area.draw(&PathElement::new([(*from, y), (*to, y)], stroke))?;
            }
            area.draw_text(&line.name, &style, (36, y))?;
            y += 25;
        }
        y += 8;
        for note in &self.notes {
            area.draw_text(note, &style, (0, y))?;
            y += 20;
        }
        Ok(())
    }
}
