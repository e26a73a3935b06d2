//! Decodes and encodes pictures for all engines. Input is untrusted: pixels and memory are limited
//! before decoding starts.
//!
//! | module | contents |
//! | --- | --- |
//! | this one | decodes the pictures of users |
//! | `truncated` | detects truncated pictures |
//! | [`format`](OutputFormat) | encodes pictures |

mod format;
mod truncated;

use std::io::{Cursor, ErrorKind};
use std::panic::catch_unwind;

use image::error::LimitErrorKind;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use warmq_types::job::JobError;

pub(crate) use format::OutputFormat;
use truncated::is_truncated;

/// The input field that names the picture.
pub(super) const IMAGE_URL: &str = "image_url";

/// Longest side of a picture, pixels, decoded or produced.
pub(super) const MAX_SIDE: u32 = 4096;

/// Memory limit of a decoder, including the pixels: 4096 × 4096 of 8 bytes, and a margin.
const MAX_DECODER_BYTES: u64 = 160 << 20;

/// Decodes a PNG, JPEG or WebP, upright; the first frame of an animation.
///
/// # Errors
/// The reason for the picture's owner: not a picture, truncated, or too large.
pub(crate) fn read(file: &[u8]) -> Result<DynamicImage, UnreadablePicture> {
    // A panic of a decoder fails the job, not the engine.
    let decoded = catch_unwind(|| decode(file));
    decoded.unwrap_or_else(|_| {
        let message = "the picture cannot be decoded";
        Err(UnreadablePicture::new("image_load_error", message))
    })
}

/// Why a picture cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct UnreadablePicture {
    /// fal's error type.
    error_type: &'static str,
    message: String,
}

impl UnreadablePicture {
    fn new(error_type: &'static str, message: impl Into<String>) -> Self {
        Self {
            error_type,
            message: message.into(),
        }
    }

    /// Returns the error of a job whose input field names the picture: a 422.
    pub(super) fn in_field(self, field: &str) -> JobError {
        JobError::field(&[field], self.error_type, self.message)
    }
}

fn decode(file: &[u8]) -> Result<DynamicImage, UnreadablePicture> {
    let known = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP];
    let format = image::guess_format(file).ok();
    let Some(format) = format.filter(|format| known.contains(format)) else {
        let message = "not a PNG, JPEG or WebP picture";
        return Err(UnreadablePicture::new("unsupported_image_format", message));
    };
    if is_truncated(file, format) {
        return Err(truncated());
    }
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    reader.limits(limits.clone());
    // Reads only the header so far.
    let mut decoder = reader.into_decoder()?;
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

fn truncated() -> UnreadablePicture {
    UnreadablePicture::new("image_load_error", "the picture is truncated")
}

impl From<ImageError> for UnreadablePicture {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(limit) if limit.kind() == LimitErrorKind::DimensionError => {
                let message = format!("larger than {MAX_SIDE} x {MAX_SIDE} pixels");
                Self::new("image_too_large", message)
            }
            ImageError::Limits(_) => Self::new("image_too_large", "decoding takes too much memory"),
            ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => truncated(),
            error => {
                let message = format!("the picture cannot be decoded: {error}");
                Self::new("image_load_error", message)
            }
        }
    }
}

#[cfg(test)]
pub(super) mod testing {
    use image::RgbImage;

    /// Returns a picture of all colours, so that it does not compress away.
    pub(crate) fn noise(width: u32, height: u32) -> RgbImage {
        let mut state = 1_u32;
        let bytes = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let bytes = bytes.take((3 * width * height) as usize).collect();
        RgbImage::from_raw(width, height, bytes).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::noise;
    use super::*;

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        noise(16, 8).write_to(&mut file, format).unwrap();
        file.into_inner()
    }

    fn refusal(file: &[u8]) -> String {
        let error = read(file).unwrap_err().in_field(IMAGE_URL);
        assert_eq!(
            (error.status, &error.detail[0].loc[1]),
            (422, &IMAGE_URL.into())
        );
        error.error_type
    }

    /// Returns a PNG chunk.
    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let sum = crc32(&[kind, data].concat()).to_be_bytes();
        [&(data.len() as u32).to_be_bytes(), kind, data, &sum].concat()
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
                (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
            })
        })
    }

    fn png_of(width: u32, height: u32, more: &[u8], pixels: &[u8]) -> Vec<u8> {
        let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
        let header = [&sides[..], &[8, 2, 0, 0, 0]].concat();
        [
            b"\x89PNG\r\n\x1a\n",
            &chunk(b"IHDR", &header)[..],
            more,
            &chunk(b"IDAT", pixels),
            &chunk(b"IEND", b""),
        ]
        .concat()
    }

    /// Returns a zlib stream (RFC 1950, RFC 1951) of 1 + 258 × `times` zeros, 13 bits for each 258.
    fn zeros(times: usize) -> Vec<u8> {
        let mut stream = vec![0x78, 0x01];
        let mut place = 0_u8;
        let mut bits = |bits: &str| {
            for bit in bits.bytes() {
                if place == 0 {
                    stream.push(0);
                }
                let last = stream.len() - 1;
                stream[last] |= (bit - b'0') << place;
                place = (place + 1) % 8;
            }
        };
        // The last block, of fixed codes; a zero; from 1 back, 258 again and again; the end.
        bits("110");
        bits("00110000");
        for _ in 0..times {
            bits("1100010100000");
        }
        bits("0000000");
        let sum = ((1 + 258 * times) % 65521) as u32;
        stream.extend((sum << 16 | 1).to_be_bytes());
        stream
    }

    /// Returns the most memory that this process ever had, bytes.
    fn peak_bytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib: u64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kib << 10
    }

    #[test]
    fn the_three_formats_are_read() {
        let exact = DynamicImage::from(noise(16, 8));
        assert_eq!(read(&encoded(ImageFormat::Png)).unwrap(), exact);
        assert_eq!(read(&encoded(ImageFormat::WebP)).unwrap(), exact);
        let lossy = read(&encoded(ImageFormat::Jpeg)).unwrap();
        assert_eq!((lossy.width(), lossy.height()), (16, 8));
    }

    #[test]
    fn other_formats_are_rejected() {
        let gif = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";
        for file in [
            b"" as &[u8],
            b"\x89",
            b"<!doctype html><p>a.png",
            gif,
            b"BM\0\0\0\0",
            &[0; 4096],
        ] {
            assert_eq!(refusal(file), "unsupported_image_format");
        }
    }

    #[test]
    fn a_truncated_picture_is_refused_as_such() {
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Jpeg] {
            let whole = encoded(format);
            for length in [30, whole.len() / 2, whole.len() - 13] {
                let error = read(&whole[..length]).unwrap_err();
                assert_eq!(error.error_type, "image_load_error", "{format:?}, {length}");
                if length > 30 {
                    let message = "the picture is truncated";
                    assert_eq!(error.message, message, "{format:?}, {length}");
                }
            }
        }
    }

    #[test]
    fn a_picture_is_turned_upright() {
        // A directory with one entry: orientation (0x0112), a short, is 6: rotate by 90°.
        let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let length = (exif.len() as u16 + 2).to_be_bytes();
        let segment = [b"\xff\xe1", &length[..], exif].concat();
        let mut jpeg = encoded(ImageFormat::Jpeg);
        let lying = read(&jpeg).unwrap();
        jpeg.splice(2..2, segment);
        assert_eq!(read(&jpeg).unwrap(), lying.rotate90());
    }

    #[test]
    fn a_damaged_picture_ends_no_thread() {
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Jpeg] {
            let whole = encoded(format);
            for place in 0..whole.len() {
                let mut damaged = whole.clone();
                damaged[place] ^= 0x5a;
                let _ = read(&damaged);
            }
        }
    }

    #[test]
    fn pixel_bombs_are_refused_by_their_header() {
        for (width, height) in [
            (60_000, 60_000),
            (4097, 1),
            (1, 4097),
            (u32::MAX >> 1, u32::MAX >> 1),
        ] {
            let bomb = png_of(width, height, b"", &zeros(1));
            assert!(bomb.len() < 200);
            assert_eq!(refusal(&bomb), "image_too_large");
        }
        let mut jpeg = encoded(ImageFormat::Jpeg);
        let start = jpeg
            .windows(2)
            .position(|marker| marker == b"\xff\xc0")
            .unwrap();
        jpeg[start + 5..start + 9].copy_from_slice(b"\xff\xff\xff\xff");
        assert_eq!(refusal(&jpeg), "image_too_large");
    }

    #[test]
    fn decompression_bombs_beside_the_pixels_are_not_unpacked_without_bound() {
        // 512 MiB each.
        let bomb = zeros(2 << 20);
        let named = [b"bomb\0\0", &bomb[..]].concat();
        let text = png_of(86, 1, &chunk(b"zTXt", &named), &zeros(1));
        let profile = png_of(86, 1, &chunk(b"iCCP", &named), &zeros(1));
        let pixels = png_of(86, 1, b"", &bomb);
        let before = peak_bytes();
        assert_eq!(read(&text).unwrap().width(), 86);
        for file in [profile, pixels] {
            let _ = read(&file);
        }
        let taken = peak_bytes() - before;
        assert!(
            taken < MAX_DECODER_BYTES + (64 << 20),
            "{} MiB",
            taken >> 20
        );
    }
}
