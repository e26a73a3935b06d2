//! Delays between attempts, one queue each.

use std::time::Duration;

/// A retry tier: a queue that returns messages after a fixed delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryTier {
    /// 1 s
    S1,
    /// 5 s
    S5,
    /// 30 s
    S30,
    /// 2 min
    M2,
    /// 10 min
    M10,
    /// 1 h
    H1,
}

impl RetryTier {
    /// All tiers, shortest first.
    pub const ALL: [RetryTier; 6] = [
        RetryTier::S1,
        RetryTier::S5,
        RetryTier::S30,
        RetryTier::M2,
        RetryTier::M10,
        RetryTier::H1,
    ];

    /// Returns the longest tier of at most `delay`, otherwise the shortest: for messages that are
    /// checked again until a condition holds.
    pub fn at_most(delay: Duration) -> Self {
        Self::ALL
            .into_iter()
            .rev()
            .find(|tier| tier.delay() <= delay)
            .unwrap_or(RetryTier::S1)
    }

    /// Returns the shortest tier of at least `delay`, otherwise the longest: for waits that must
    /// not be cut short.
    pub fn at_least(delay: Duration) -> Self {
        Self::ALL
            .into_iter()
            .find(|tier| tier.delay() >= delay)
            .unwrap_or(RetryTier::H1)
    }

    /// Returns the delay.
    pub fn delay(self) -> Duration {
        Duration::from_secs(match self {
            RetryTier::S1 => 1,
            RetryTier::S5 => 5,
            RetryTier::S30 => 30,
            RetryTier::M2 => 2 * 60,
            RetryTier::M10 => 10 * 60,
            RetryTier::H1 => 60 * 60,
        })
    }

    /// Returns the delay as queue names show it: `30s`.
    pub fn label(self) -> &'static str {
        match self {
            RetryTier::S1 => "1s",
            RetryTier::S5 => "5s",
            RetryTier::S30 => "30s",
            RetryTier::M2 => "2m",
            RetryTier::M10 => "10m",
            RetryTier::H1 => "1h",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_tier_that_fits_is_chosen() {
        let tier = |s| RetryTier::at_most(Duration::from_secs(s));
        assert_eq!(tier(0), RetryTier::S1);
        assert_eq!(tier(15), RetryTier::S5);
        assert_eq!(tier(30), RetryTier::S30);
        assert_eq!(tier(86_400), RetryTier::H1);
    }

    #[test]
    fn a_delay_is_rounded_up_to_a_tier() {
        let tier = |s| RetryTier::at_least(Duration::from_secs(s));
        assert_eq!(tier(2), RetryTier::S5);
        assert_eq!(tier(30), RetryTier::S30);
        assert_eq!(tier(86_400), RetryTier::H1);
    }
}
