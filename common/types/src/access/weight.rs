//! A key's share of runner time.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The weights that a key may have.
const WEIGHTS: RangeInclusive<f64> = 0.01..=1000.0;

/// A key's share of an app's runner time, relative to that of the other keys that have jobs
/// waiting: from 0.01 to 1000, without unit.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Weight(f64);

/// A number that is not a weight.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "a weight is a number from {min} to {max}, not {0}",
    min = WEIGHTS.start(),
    max = WEIGHTS.end()
)]
pub struct InvalidWeight(String);

impl Weight {
    /// The weight of a key without one.
    pub const DEFAULT: Self = Self(1.0);

    /// Returns the weight of this value.
    ///
    /// # Errors
    /// The value is not from 0.01 to 1000, as NaN is not.
    pub fn new(value: f64) -> Result<Self, InvalidWeight> {
        // NaN is in no range.
        match WEIGHTS.contains(&value) {
            true => Ok(Self(value)),
            false => Err(InvalidWeight(value.to_string())),
        }
    }

    /// Returns the value, from 0.01 to 1000.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<f64> for Weight {
    type Error = InvalidWeight;
    fn try_from(value: f64) -> Result<Self, InvalidWeight> {
        Self::new(value)
    }
}

impl From<Weight> for f64 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl FromStr for Weight {
    type Err = InvalidWeight;
    fn from_str(text: &str) -> Result<Self, InvalidWeight> {
        let value = text.parse().map_err(|_| InvalidWeight(text.to_owned()))?;
        Self::new(value)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_numbers_from_a_hundredth_to_a_thousand() {
        for value in [0.01, 0.5, 1.0, 1000.0] {
            assert_eq!(Weight::new(value).map(Weight::get), Ok(value));
            assert_eq!(value.to_string().parse(), Weight::new(value));
        }
        for value in [0.0, -0.0, -1.0, 0.0099, 1000.1, f64::NAN, f64::INFINITY] {
            let error = Weight::new(value).unwrap_err().to_string();
            let expected = format!("a weight is a number from 0.01 to 1000, not {value}");
            assert_eq!(error, expected);
            assert!(value.to_string().parse::<Weight>().is_err(), "{value}");
        }
        let error = "heavy".parse::<Weight>().unwrap_err().to_string();
        assert!(error.ends_with("not heavy"), "{error}");
    }
}
