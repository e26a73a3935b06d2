//! How long files are kept: `12h`, `30d`, `forever`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const HOUR_S: u64 = 3600;

/// Maximum number of hours: a hundred years.
const MAX_HOURS: u64 = 100 * 365 * 24;

/// A time in hours or days, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepFor {
    /// This long.
    Time(Duration),
    /// Without limit.
    Forever,
}

impl KeepFor {
    /// Returns whether something of this age is kept.
    pub fn includes(self, age: Duration) -> bool {
        match self {
            Self::Time(time) => age < time,
            Self::Forever => true,
        }
    }
}

impl FromStr for KeepFor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "forever" {
            return Ok(Self::Forever);
        }
        let (number, unit_h) = [("h", 1), ("d", 24)]
            .into_iter()
            .find_map(|(unit, hours)| Some((text.strip_suffix(unit)?, hours)))
            .unwrap_or((text, 0));
        let hours = number.trim_end().parse::<u64>().ok();
        let hours = hours.and_then(|number| number.checked_mul(unit_h));
        match hours {
            Some(hours @ 1..=MAX_HOURS) => Ok(Self::Time(Duration::from_secs(hours * HOUR_S))),
            _ => Err("write 12h, 30d or forever".to_owned()),
        }
    }
}

impl fmt::Display for KeepFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => write!(f, "{} h", time.as_secs() / HOUR_S),
            Self::Forever => f.write_str("forever"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        let hours = |hours: u64| Ok(KeepFor::Time(Duration::from_secs(hours * HOUR_S)));
        assert_eq!("12h".parse(), hours(12));
        assert_eq!(" 30d ".parse(), hours(720));
        assert_eq!("forever".parse(), Ok(KeepFor::Forever));
        for wrong in [
            "",
            "12",
            "0d",
            "1.5d",
            "-1d",
            "9999999999999999999d",
            "1m",
            "ever",
        ] {
            let error = wrong.parse::<KeepFor>().unwrap_err();
            assert_eq!(error, "write 12h, 30d or forever", "{wrong}");
        }
    }
}
