//! Durations as people write them: `2.5` (seconds), `500ms`, `5s`, `2m`, `1h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Maximum of settings and headers: no wait in warmq is longer.
const MAX: Duration = Duration::from_secs(24 * 3600);

/// A duration from 0 to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationSetting(Duration);

impl DurationSetting {
    /// Parses a setting of the file: a number of seconds, or text with a unit.
    ///
    /// # Errors
    /// Neither of these, or out of range.
    pub fn from_toml(value: &toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(text) => text.parse(),
            toml::Value::Integer(seconds) => seconds.to_string().parse(),
            toml::Value::Float(seconds) => seconds.to_string().parse(),
            _ => Err("expected a duration, such as 2.5 (seconds) or \"500ms\"".to_owned()),
        }
    }

    /// Parses as [`DurationSetting::from_toml`] does, and refuses 0.
    ///
    /// # Errors
    /// Those of [`DurationSetting::from_toml`]; and 0.
    pub fn nonzero_from_toml(value: &toml::Value) -> Result<Self, String> {
        match Self::from_toml(value)? {
            none if none.is_zero() => Err("must be greater than 0".to_owned()),
            some => Ok(some),
        }
    }

    /// Returns the duration.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// Returns the duration in ms.
    pub fn as_ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns whether it is 0.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for DurationSetting {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        // `ms` before `s` and `m`, which are parts of it.
        let (number, unit_s) = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]
            .into_iter()
            .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
            .unwrap_or((text, 1.0));
        let seconds = number.trim_end().parse::<f64>().map_err(|_| {
            format!(
                "'{}' is not a valid duration; write 2.5 (seconds), 500ms, 5s, 2m or 1h",
                shown(text)
            )
        })? * unit_s;
        match Duration::try_from_secs_f64(seconds) {
            Ok(duration) if duration <= MAX => Ok(Self(duration)),
            _ => Err(format!(
                "'{}' is out of range; a duration is at least 0 and at most {} h",
                shown(text),
                MAX.as_secs() / 3600
            )),
        }
    }
}

impl fmt::Display for DurationSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

/// Returns the beginning of foreign text, fit for a message.
fn shown(text: &str) -> String {
    text.chars()
        .take(40)
        .flat_map(char::escape_default)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_units() {
        let ms = |text: &str| text.parse::<DurationSetting>().map(DurationSetting::as_ms);
        assert_eq!(ms("2.5"), Ok(2500));
        assert_eq!(ms(" 500ms "), Ok(500));
        assert_eq!(ms("5 s"), Ok(5000));
        assert_eq!(ms("2m"), Ok(120_000));
        assert_eq!(ms("24h"), Ok(86_400_000));
        assert_eq!(ms("0"), Ok(0));
        for bad in [
            "", "s", "-1", "-0.5s", "inf", "NaN", "1e300", "25000m", "soon", "25h", "1d",
        ] {
            assert!(ms(bad).is_err(), "{bad}");
        }
    }
}
