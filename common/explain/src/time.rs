//! Formatting of times and durations.

/// Formats Unix ms: `2026-11-22 04:18:05 UTC`.
pub fn utc(ms: u64) -> String {
    let time = i64::try_from(ms)
        .ok()
        .and_then(chrono::DateTime::from_timestamp_millis);
    match time {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => format!("{ms} ms"),
    }
}

/// Formats a duration: `40 ms`, `2.5 s`, `3 min 20 s`, `5 h 10 min`, `3 d 4 h`.
pub fn duration(ms: u64) -> String {
    let two = |ms: u64, big: (u64, &str), small: (u64, &str)| {
        let (whole, rest) = (ms / big.0, ms % big.0 / small.0);
        match rest {
            0 => format!("{whole} {}", big.1),
            rest => format!("{whole} {} {rest} {}", big.1, small.1),
        }
    };
    const SECOND: (u64, &str) = (1000, "s");
    const MINUTE: (u64, &str) = (60_000, "min");
    const HOUR: (u64, &str) = (3_600_000, "h");
    const DAY: (u64, &str) = (86_400_000, "d");
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => two(ms, MINUTE, SECOND),
        3_600_000..86_400_000 => two(ms, HOUR, MINUTE),
        _ => two(ms, DAY, HOUR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well_at_every_scale() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (2_500, "2.5 s"),
            (60_000, "1 min"),
            (200_999, "3 min 20 s"),
            (18_600_000, "5 h 10 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(utc(1_795_321_085_000), "2026-11-22 04:18:05 UTC");
    }
}
