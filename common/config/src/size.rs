//! Sizes as people write them: `512MiB`, `1.5GiB`, `10485760`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// Minimum without a unit, bytes: `20` is easily written for `20GiB`.
const LEAST_BARE: f64 = 4096.0;

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let invalid =
            || format!("'{text}' is not a valid size; write 512MiB, 8GiB or a number of bytes");
        let with_unit = UNITS
            .iter()
            .find_map(|(suffix, bytes)| Some((text.strip_suffix(suffix)?, *bytes)));
        let (number, unit) = with_unit.unwrap_or((text, 1));
        let number: f64 = number.trim().parse().map_err(|_| invalid())?;
        if with_unit.is_none() && (1.0..LEAST_BARE).contains(&number) {
            return Err(format!(
                "'{text}' has no unit; write {text}MiB, {text}GiB, or {text}B for bytes"
            ));
        }
        let bytes = number * unit as f64;
        if bytes.is_finite() && (1.0..1e18).contains(&bytes) {
            Ok(Self(bytes as u64))
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 30 => write!(f, "{:.1} GiB", bytes as f64 / (1u64 << 30) as f64),
            bytes if bytes >= 1 << 20 => write!(f, "{:.1} MiB", bytes as f64 / (1u64 << 20) as f64),
            bytes => write!(f, "{bytes} B"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        let size = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("1.5 KiB"), Ok(1536));
        assert_eq!(size("42B"), Ok(42));
        assert_eq!(size("10485760"), Ok(10 << 20));
        assert!(size("20").unwrap_err().contains("20GiB"));
        for bad in ["", "MiB", "-1MiB", "0", "12 parsecs", "inf", "NaN"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
