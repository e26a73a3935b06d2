//! Detects a picture's background, and the alpha of the object's edges.
//!
//! Each pixel has a distance: how far its colour is from the border's. The background is what a
//! flood fill from the border reaches through distances up to the tolerance; enclosed areas of the
//! same colour stay. From the edge of the background, distances that keep rising towards the object
//! are an edge: pixels that mix the object's colour and the background's.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::Range;

use image::{Rgba, RgbaImage};

/// The distance from black to white.
const MAX_DISTANCE: u16 = u16::MAX;

/// An edge's distance rises from pixel to pixel by at least this fraction. So edges may be blurred
/// over about 16 pixels, while the shades of an object are part of the object.
const MIN_RISE: u16 = 16;

/// Makes the background of a picture transparent, and its edges partly transparent, so that the
/// picture over its old background looks as before.
///
/// The background is what is connected to the border and no farther from its median colour than
/// `tolerance`, a fraction of the distance from black to white. Transparent pixels stay
/// transparent.
pub(super) fn remove(picture: &mut RgbaImage, tolerance: f64) {
    let Some(ground) = border_colour(picture) else {
        return;
    };
    let map = DistanceMap::measure(picture, ground);
    let background = map.flood((tolerance * f64::from(MAX_DISTANCE)) as u16);
    let peaks = map.peaks(&background);
    for (place, pixel) in picture.pixels_mut().enumerate() {
        let share = f64::from(map.distances[place]) / f64::from(peaks[place]);
        if background[place] {
            *pixel = Rgba([0; 4]);
        } else if share < 1.0 {
            *pixel = without(ground, *pixel, share);
        }
    }
}

/// Returns the border's median colour per channel, `None` if all of it is transparent.
fn border_colour(picture: &RgbaImage) -> Option<[u8; 3]> {
    let (width, height) = picture.dimensions();
    let is_border = |x, y| x == 0 || y == 0 || x + 1 == width || y + 1 == height;
    let border = picture
        .enumerate_pixels()
        .filter(|(x, y, pixel)| is_border(*x, *y) && pixel[3] > 0);
    let mut channels = [const { Vec::new() }; 3];
    for (_, _, pixel) in border {
        for (channel, value) in channels.iter_mut().zip(pixel.0) {
            channel.push(value);
        }
    }
    let count = channels[0].len();
    (count > 0).then(|| channels.map(|mut channel| *channel.select_nth_unstable(count / 2).1))
}

/// Returns the object's part of a pixel: the fraction `share`; the rest is `ground`.
fn without(ground: [u8; 3], Rgba([red, green, blue, alpha]): Rgba<u8>, share: f64) -> Rgba<u8> {
    let colour = |channel: usize, mixed: u8| {
        let ground = f64::from(ground[channel]);
        (ground + (f64::from(mixed) - ground) / share).round() as u8
    };
    Rgba([
        colour(0, red),
        colour(1, green),
        colour(2, blue),
        (f64::from(alpha) * share).round() as u8,
    ])
}

/// The distances of a picture's pixels, row by row.
struct DistanceMap {
    width: usize,
    distances: Vec<u16>,
}

impl DistanceMap {
    /// Measures the distances from `ground`; that of transparent pixels is 0.
    fn measure(picture: &RgbaImage, ground: [u8; 3]) -> Self {
        let greatest = (3.0 * 255.0 * 255.0_f64).sqrt();
        let distance = |pixel: &Rgba<u8>| {
            if pixel[3] == 0 {
                return 0;
            }
            let squares = ground.iter().zip(pixel.0).map(|(ground, value)| {
                let apart = f64::from(ground.abs_diff(value));
                apart * apart
            });
            (squares.sum::<f64>().sqrt() / greatest * f64::from(MAX_DISTANCE)) as u16
        };
        Self {
            width: picture.width() as usize,
            distances: picture.pixels().map(distance).collect(),
        }
    }

    /// Returns which pixels a flood fill from the border reaches through distances up to `level`.
    fn flood(&self, level: u16) -> Vec<bool> {
        let is_low = |place: &usize| self.distances[*place] <= level;
        let is_border = |place: &usize| self.beside(*place).count() < 4;
        let border = self.places().filter(is_border);
        self.spread(border.filter(is_low), |place| {
            self.beside(place).filter(is_low)
        })
    }

    /// Returns the distance that the edge at each pixel rises to; off the edges, the pixel's own.
    fn peaks(&self, background: &[bool]) -> Vec<u16> {
        let is_boundary =
            |place: &usize| !background[*place] && self.around(*place).any(|next| background[next]);
        let upwards = |place| {
            self.around(place)
                .filter(move |&next| self.is_steep(place, next))
        };
        let is_edge = self.spread(self.places().filter(is_boundary), upwards);
        let mut edges: Vec<usize> = self.places().filter(|&place| is_edge[place]).collect();
        // From the largest distance down, so that the peaks of larger distances are known.
        edges.sort_unstable_by_key(|&place| Reverse(self.distances[place]));
        let mut peaks = self.distances.clone();
        for place in edges {
            if let Some(peak) = upwards(place).map(|next| peaks[next]).max() {
                peaks[place] = peak;
            }
        }
        peaks
    }

    /// Returns whether the distance rises steeply from one pixel to the next.
    fn is_steep(&self, from: usize, to: usize) -> bool {
        let (from, to) = (self.distances[from], self.distances[to]);
        to.saturating_sub(from) > from / MIN_RISE
    }

    /// Returns all pixels that `steps` reach from `starts`.
    fn spread<S: Iterator<Item = usize>>(
        &self,
        starts: impl Iterator<Item = usize>,
        steps: impl Fn(usize) -> S,
    ) -> Vec<bool> {
        let mut reached = vec![false; self.distances.len()];
        let mut front: VecDeque<usize> = starts.collect();
        for &start in &front {
            reached[start] = true;
        }
        while let Some(place) = front.pop_front() {
            for next in steps(place) {
                if !reached[next] {
                    reached[next] = true;
                    front.push_back(next);
                }
            }
        }
        reached
    }

    fn places(&self) -> Range<usize> {
        0..self.distances.len()
    }

    /// Returns the four neighbours of a pixel: the fill does not pass through corners.
    fn beside(&self, place: usize) -> impl Iterator<Item = usize> + use<> {
        let (column, count) = (place % self.width, self.distances.len());
        let left = (column > 0).then(|| place - 1);
        let right = (column + 1 < self.width).then(|| place + 1);
        let above = place.checked_sub(self.width);
        let below = Some(place + self.width).filter(|&below| below < count);
        [left, right, above, below].into_iter().flatten()
    }

    /// Returns a pixel and its eight neighbours: at a corner of the object the edge rises
    /// diagonally.
    fn around(&self, place: usize) -> impl Iterator<Item = usize> + use<> {
        let width = self.width;
        let near = |at: usize, count: usize| at.saturating_sub(1)..(at + 2).min(count);
        let columns = near(place % width, width);
        let rows = near(place / width, self.distances.len() / width);
        rows.flat_map(move |row| columns.clone().map(move |column| row * width + column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREY: [u8; 3] = [120, 130, 110];
    const RED: [u8; 3] = [210, 40, 50];
    const TOLERANCE: f64 = 0.1;

    /// Returns noise as of a bad JPEG, the same each time.
    fn noisy(colour: [u8; 3], x: u32, y: u32) -> Rgba<u8> {
        let noise = (x * 7 + y * 13 + x * y) % 17;
        let [red, green, blue] = colour.map(|value| value + noise as u8 - 8);
        Rgba([red, green, blue, 255])
    }

    /// 32 x 32 noisy pixels of grey, and of red where `is_object`.
    fn picture(is_object: impl Fn(u32, u32) -> bool) -> RgbaImage {
        RgbaImage::from_fn(32, 32, |x, y| {
            noisy(if is_object(x, y) { RED } else { GREY }, x, y)
        })
    }

    fn cut_out(mut picture: RgbaImage) -> RgbaImage {
        remove(&mut picture, TOLERANCE);
        picture
    }

    fn alpha(picture: &RgbaImage, x: u32, y: u32) -> u8 {
        picture.get_pixel(x, y)[3]
    }

    fn is_square(x: u32, y: u32) -> bool {
        (8..24).contains(&x) && (8..24).contains(&y)
    }

    #[test]
    fn a_noisy_plain_background_becomes_transparent_and_the_square_stays() {
        let whole = picture(is_square);
        let cut = cut_out(whole.clone());
        for (x, y, pixel) in cut.enumerate_pixels() {
            match is_square(x, y) {
                true => assert!(pixel[3] > 200, "at {x}, {y}: {pixel:?}"),
                false => assert_eq!(*pixel, Rgba([0; 4]), "at {x}, {y}"),
            }
        }
        assert_eq!(cut.get_pixel(16, 16), whole.get_pixel(16, 16));
    }

    #[test]
    fn what_the_object_encloses_stays_and_a_gap_at_a_corner_is_none() {
        let hole = |x, y| (14..18).contains(&x) && (14..18).contains(&y);
        let ring = |x, y| is_square(x, y) && !hole(x, y);
        assert_eq!(alpha(&cut_out(picture(ring)), 16, 16), 255);
        // From the hole to the square's corner, by corners only.
        let crossed = |x, y| ring(x, y) && !(x == y && x < 14);
        assert_eq!(alpha(&cut_out(picture(crossed)), 16, 16), 255);
        let open = |x, y| ring(x, y) && !(y == 16 && x < 14);
        assert_eq!(alpha(&cut_out(picture(open)), 16, 16), 0);
    }

    #[test]
    fn an_object_may_touch_the_border() {
        let cut = cut_out(picture(|x, y| x < 12 && y > 10));
        assert_eq!((alpha(&cut, 0, 31), alpha(&cut, 31, 0)), (255, 0));
    }

    #[test]
    fn a_picture_of_background_alone_becomes_all_transparent() {
        for (width, height) in [(1, 1), (1, 9), (9, 1), (32, 32)] {
            let plain = RgbaImage::from_fn(width, height, |x, y| noisy(GREY, x, y));
            let cut = cut_out(plain);
            assert!(
                cut.pixels().all(|pixel| pixel[3] == 0),
                "{width} x {height}"
            );
        }
    }

    #[test]
    fn the_tolerance_is_the_distance_from_black_to_white() {
        let picture = RgbaImage::from_fn(9, 9, |x, y| match (x, y) {
            (4, 4) => Rgba([127, 127, 127, 255]),
            _ => Rgba([0, 0, 0, 255]),
        });
        for (tolerance, left) in [(0.0, 255), (0.49, 255), (0.5, 0), (1.0, 0)] {
            let mut picture = picture.clone();
            remove(&mut picture, tolerance);
            assert_eq!(alpha(&picture, 4, 4), left, "{tolerance}");
            assert_eq!(alpha(&picture, 0, 0), 0);
        }
    }

    #[test]
    fn a_blurred_edge_is_soft_and_bears_no_colour_of_the_background() {
        // From grey to red over 12 pixels.
        let mix = |x: u32, channel: usize| {
            let share = (f64::from(x) - 10.0).clamp(0.0, 12.0) / 12.0;
            let [ground, object] = [GREY, RED].map(|colour| f64::from(colour[channel]));
            (ground + (object - ground) * share).round() as u8
        };
        let whole = RgbaImage::from_fn(40, 40, |x, y| {
            let x = x.min(y).min(39 - x).min(39 - y) + 8;
            Rgba([mix(x, 0), mix(x, 1), mix(x, 2), 255])
        });
        let cut = cut_out(whole.clone());
        let alphas: Vec<u8> = (0..20).map(|x| alpha(&cut, x, 20)).collect();
        assert!(alphas.is_sorted(), "{alphas:?}");
        let soft = alphas.iter().filter(|alpha| (1..255).contains(*alpha));
        assert!(soft.count() >= 6, "{alphas:?}");
        for (before, after) in whole.pixels().zip(cut.pixels()) {
            if after[3] == 0 {
                continue;
            }
            let share = f64::from(after[3]) / 255.0;
            for channel in 0..3 {
                assert!(after[channel].abs_diff(RED[channel]) <= 8, "{after:?}");
                let [ground, object] = [GREY, after.0[..3].try_into().unwrap()]
                    .map(|colour: [u8; 3]| f64::from(colour[channel]));
                let laid_back = object * share + ground * (1.0 - share);
                assert!((laid_back - f64::from(before[channel])).abs() < 1.5);
            }
        }
    }

    #[test]
    fn what_was_cut_out_before_stays_as_it_is() {
        let once = cut_out(picture(is_square));
        assert_eq!(cut_out(once.clone()), once);
        // Half of the border was transparent before.
        let half = RgbaImage::from_fn(32, 32, |x, y| match (x < 16, is_square(x, y)) {
            (true, false) => Rgba([255, 255, 255, 0]),
            (_, is_object) => noisy(if is_object { RED } else { GREY }, x, y),
        });
        let cut = cut_out(half);
        assert_eq!([(0, 0), (31, 31)].map(|(x, y)| alpha(&cut, x, y)), [0, 0]);
        assert_eq!(alpha(&cut, 16, 16), 255);
    }
}
