//! Detects truncated pictures where decoders do not report them: grey rows take the place of a
//! JPEG's missing ones, and a truncated WebP counts as corrupt.

use image::ImageFormat;

/// Returns whether the end of a picture is missing. Decoders report it for PNGs.
pub(super) fn is_truncated(file: &[u8], format: ImageFormat) -> bool {
    match format {
        ImageFormat::Jpeg => is_truncated_jpeg(file),
        ImageFormat::WebP => is_truncated_webp(file),
        _ => false,
    }
}

/// Returns whether a WebP is shorter than its RIFF header states (RFC 9649, section 2.4).
fn is_truncated_webp(file: &[u8]) -> bool {
    let size = file.get(4..).and_then(<[u8]>::first_chunk);
    size.is_none_or(|size| (file.len() as u64) < 8 + u64::from(u32::from_le_bytes(*size)))
}

/// Returns whether a JPEG lacks its end-of-image marker (ITU-T T.81, annex B). Bytes may follow it.
fn is_truncated_jpeg(file: &[u8]) -> bool {
    const STUFFING: u8 = 0x00;
    const FILL: u8 = 0xff;
    const END_OF_IMAGE: u8 = 0xd9;
    let mut rest = file;
    let is_marker = |pair: &[u8]| pair[0] == 0xff && pair[1] != STUFFING && pair[1] != FILL;
    while let Some(at) = rest.windows(2).position(is_marker) {
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        match marker {
            END_OF_IMAGE => return false,
            // Markers without a segment: restarts, the start of the image.
            0x01 | 0xd0..=0xd8 => {}
            // A segment may contain markers, as a thumbnail does.
            _ => {
                let length = rest
                    .first_chunk()
                    .map_or(0, |bytes| u16::from_be_bytes(*bytes));
                rest = rest.get(usize::from(length)..).unwrap_or_default();
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::testing::noise;
    use super::*;

    /// Returns a JPEG with a whole JPEG in a segment, as cameras store thumbnails.
    fn jpeg_with_thumbnail() -> Vec<u8> {
        let jpeg = |side| {
            let mut file = std::io::Cursor::new(Vec::new());
            noise(side, side)
                .write_to(&mut file, ImageFormat::Jpeg)
                .unwrap();
            file.into_inner()
        };
        let (thumbnail, mut file) = (jpeg(8), jpeg(32));
        let length = (thumbnail.len() as u16 + 2).to_be_bytes();
        let segment = [&[0xff, 0xe1], &length[..], &thumbnail].concat();
        file.splice(2..2, segment);
        file
    }

    #[test]
    fn a_jpeg_is_whole_up_to_its_last_byte_and_may_be_followed_by_others() {
        let whole = jpeg_with_thumbnail();
        assert!(!is_truncated_jpeg(&whole));
        assert!(!is_truncated_jpeg(&[&whole[..], b"\n\n"].concat()));
        for length in 0..whole.len() {
            assert!(is_truncated_jpeg(&whole[..length]), "{length} bytes");
        }
    }
}
