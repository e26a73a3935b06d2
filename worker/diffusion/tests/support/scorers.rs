//! Scores a picture against its prompt. models/scorers/README.md describes the rules,
//! models/train/recognizers.py implements them in Python.

use std::collections::BTreeMap;
use std::f64::consts::PI;
use std::path::Path;

use safetensors::SafeTensors;
use serde::Deserialize;
use warmq_diffusion::Picture;

/// Pixels along a side.
const SIDE: usize = 64;
/// Minimum intersection over union with an ideal shape of a recognised figure.
const LEAST_OVERLAP: f64 = 0.7;

type Colour = [f64; 3];
type Palette = BTreeMap<String, Colour>;

/// By row, then column.
fn pixel(picture: &Picture, y: usize, x: usize) -> Colour {
    let at = 3 * (y * SIDE + x);
    [0, 1, 2].map(|channel| f64::from(picture.rgb[at + channel]))
}

fn pixels(picture: &Picture, among: impl Fn(usize, usize) -> bool) -> Vec<Colour> {
    let all = (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x)));
    all.filter(|&(y, x)| among(y, x))
        .map(|(y, x)| pixel(picture, y, x))
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    (values[middle] + values[values.len() - 1 - middle]) / 2.0
}

fn median_colour(pixels: &[Colour]) -> Colour {
    [0, 1, 2].map(|channel| median(pixels.iter().map(|pixel| pixel[channel]).collect()))
}

fn distance(one: &Colour, other: &Colour) -> f64 {
    one.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum()
}

fn nearest(colour: &Colour, palette: &Palette) -> String {
    let closer = |a: &(&String, &Colour), b: &(&String, &Colour)| {
        distance(colour, a.1).total_cmp(&distance(colour, b.1))
    };
    palette.iter().min_by(closer).unwrap().0.clone()
}

/// A figure, its colour, and the colour behind it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Shape {
    pub shape: String,
    pub colour: String,
    pub background: String,
}

#[derive(Deserialize)]
pub struct ShapeReader {
    palette: Palette,
    star_waist: f64,
}

impl ShapeReader {
    pub fn read(&self, picture: &Picture) -> Shape {
        let inner = 4..SIDE - 4;
        let frame = pixels(picture, |y, x| !(inner.contains(&y) && inner.contains(&x)));
        let centre = pixels(picture, |y, x| {
            (28..36).contains(&y) && (28..36).contains(&x)
        });
        let background = nearest(&median_colour(&frame), &self.palette);
        let colour = nearest(&median_colour(&centre), &self.palette);
        let (of_figure, behind) = (self.palette[&colour], self.palette[&background]);
        let all = pixels(picture, |_, _| true);
        let figure: Vec<bool> = all
            .iter()
            .map(|p| distance(p, &of_figure) < distance(p, &behind))
            .collect();
        let overlaps = ["circle", "square", "triangle", "star"]
            .map(|shape| (shape, self.overlap(&figure, shape)));
        let (shape, overlap) = overlaps
            .into_iter()
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap();
        let shape = if overlap >= LEAST_OVERLAP {
            shape
        } else {
            "unclear"
        };
        Shape {
            shape: shape.to_owned(),
            colour,
            background,
        }
    }

    /// Intersection over union with the ideal shape of the same area around the same centroid.
    fn overlap(&self, figure: &[bool], shape: &str) -> f64 {
        let centres =
            || (0..SIDE * SIDE).map(|i| ((i % SIDE) as f64 + 0.5, (i / SIDE) as f64 + 0.5));
        let inside: Vec<(f64, f64)> = centres()
            .zip(figure)
            .filter(|(_, of)| **of)
            .map(|(at, _)| at)
            .collect();
        let area = inside.len() as f64;
        if inside.is_empty() {
            return 0.0;
        }
        let (x, y) = inside
            .iter()
            .fold((0.0, 0.0), |(x, y), at| (x + at.0 / area, y + at.1 / area));
        let corners = self.corners(shape, area);
        let ideal = centres().map(|(cx, cy)| match &corners {
            None => (cx - x).hypot(cy - y) <= (area / PI).sqrt(),
            Some(corners) => encloses(corners, cx - x, cy - y),
        });
        let (mut both, mut either) = (0.0, 0.0);
        for (ideal, &figure) in ideal.zip(figure) {
            both += f64::from(u8::from(ideal && figure));
            either += f64::from(u8::from(ideal || figure));
        }
        both / either
    }

    /// The corners around the origin, y down, of the shape with this area; none for a circle.
    fn corners(&self, shape: &str, area: f64) -> Option<Vec<(f64, f64)>> {
        let (first, count) = match shape {
            "square" => (45.0, 4),
            "triangle" => (-90.0, 3),
            "star" => (-90.0, 10),
            _ => return None,
        };
        let corner = |i: u32| {
            let radius = if shape == "star" && i % 2 == 1 {
                self.star_waist
            } else {
                1.0
            };
            let angle = (first + 360.0 / f64::from(count) * f64::from(i)).to_radians();
            (radius * angle.cos(), radius * angle.sin())
        };
        let unit: Vec<(f64, f64)> = (0..count).map(corner).collect();
        let twice_the_area: f64 = edges(&unit)
            .map(|((ax, ay), (bx, by))| ax * by - bx * ay)
            .sum();
        let scale = (area / (twice_the_area.abs() / 2.0)).sqrt();
        Some(
            unit.into_iter()
                .map(|(x, y)| (scale * x, scale * y))
                .collect(),
        )
    }
}

type Point = (f64, f64);

fn edges(corners: &[Point]) -> impl Iterator<Item = (Point, Point)> {
    corners
        .iter()
        .copied()
        .zip(corners.iter().copied().cycle().skip(1))
}

/// Even-odd rule: a ray to the right crosses the outline an odd number of times.
fn encloses(corners: &[Point], x: f64, y: f64) -> bool {
    let crosses = |((ax, ay), (bx, by)): &(Point, Point)| {
        (*ay > y) != (*by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax
    };
    edges(corners).filter(crosses).count() % 2 == 1
}

/// A small perceptron trained on real digits.
pub struct DigitReader {
    /// 64 rows of 256 inputs.
    hidden: Layer,
    /// 10 rows of 64 inputs.
    output: Layer,
}

struct Layer {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Layer {
    fn apply(&self, inputs: &[f32]) -> Vec<f32> {
        let rows = self.weight.chunks(inputs.len()).zip(&self.bias);
        rows.map(|(row, bias)| bias + row.iter().zip(inputs).map(|(w, x)| w * x).sum::<f32>())
            .collect()
    }
}

impl DigitReader {
    pub fn open(file: &Path) -> DigitReader {
        let bytes = std::fs::read(file).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = |name: &str| {
            let data = file.tensor(name).unwrap().data();
            data.chunks(4)
                .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
                .collect()
        };
        let layer = |name| Layer {
            weight: numbers(&format!("{name}.weight")),
            bias: numbers(&format!("{name}.bias")),
        };
        DigitReader {
            hidden: layer("hidden"),
            output: layer("output"),
        }
    }

    pub fn read(&self, picture: &Picture) -> usize {
        const CELL: usize = 4;
        const CELLS: usize = SIDE / CELL;
        let ink = |cell: usize| {
            let (row, column) = (cell / CELLS, cell % CELLS);
            let inside = pixels(picture, |y, x| y / CELL == row && x / CELL == column);
            let grey: f64 = inside.iter().flatten().sum::<f64>() / (3 * inside.len()) as f64;
            (1.0 - grey / 255.0) as f32
        };
        let inks: Vec<f32> = (0..CELLS * CELLS).map(ink).collect();
        let hidden: Vec<f32> = self
            .hidden
            .apply(&inks)
            .into_iter()
            .map(|h| h.max(0.0))
            .collect();
        let scores = self.output.apply(&hidden);
        (0..scores.len())
            .max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
            .unwrap()
    }
}

/// A time of day, a kind of ground, and the position of the sun or the moon.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Scene {
    pub hour: String,
    pub ground: String,
    pub place: String,
}

#[derive(Deserialize)]
pub struct SceneReader {
    hours: Palette,
    grounds: BTreeMap<String, Palette>,
}

impl SceneReader {
    pub fn read(&self, picture: &Picture) -> Scene {
        let hour = nearest(&median_colour(&pixels(picture, |y, _| y < 6)), &self.hours);
        let edge = pixels(picture, |y, _| (57..63).contains(&y));
        let ground = nearest(&median_colour(&edge), &self.grounds[&hour]);
        let (mut weights, mut moments) = (0.0, 0.0);
        for y in 4..34 {
            let light = |x| pixel(picture, y, x).iter().sum::<f64>() / 3.0;
            let row: Vec<f64> = (0..SIDE).map(light).collect();
            let usual = median(row.clone());
            for (x, light) in row.into_iter().enumerate() {
                let weight = (light - usual).max(0.0).powi(2);
                weights += weight;
                moments += weight * (x as f64 + 0.5);
            }
        }
        let place = match moments / f64::max(weights, 1e-9) {
            centre if centre < 23.0 => "left",
            centre if centre > 41.0 => "right",
            _ => "centre",
        };
        Scene {
            hour,
            ground,
            place: place.to_owned(),
        }
    }
}
