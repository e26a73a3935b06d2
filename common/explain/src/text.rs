//! Parts of sentences.

use warmq_types::ids::RunnerId;

/// Formats `none`, `a`, `a, b and c`.
pub(super) fn names(runners: &[RunnerId]) -> String {
    match runners {
        [] => "none".to_owned(),
        [one] => one.to_string(),
        [some @ .., last] => {
            let some: Vec<&str> = some.iter().map(RunnerId::as_str).collect();
            format!("{} and {last}", some.join(", "))
        }
    }
}

/// Formats `no runners`, `1 runner`, `2 runners`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    match number {
        0 => format!("no {many}"),
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

/// Ends a sentence with one full stop.
pub(super) fn ended(sentence: &str) -> String {
    format!("{}.", sentence.trim().trim_end_matches('.'))
}
