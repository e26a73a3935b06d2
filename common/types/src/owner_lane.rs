//! The jobs of one owner in one lane.

use std::fmt;

use crate::ids::KeyId;
use crate::job::Priority;

/// The jobs of one owner in one lane of an app. As text, `<lane>.<key>`, or `<lane>` for the jobs
/// without an owner: no two have the same text, since a key's id contains no dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OwnerLane {
    /// The lane.
    pub lane: Priority,
    /// The API key that submitted them; `None` for AMQP submissions.
    pub owner: Option<KeyId>,
}

impl OwnerLane {
    /// Parses its text.
    pub fn parse(text: &str) -> Option<Self> {
        let (lane, owner) = match text.split_once('.') {
            Some((lane, owner)) => (lane, Some(KeyId::parse(owner).ok()?)),
            None => (text, None),
        };
        let lane = Priority::parse(lane)?;
        Some(Self { lane, owner })
    }
}

impl fmt::Display for OwnerLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.lane.as_str())?;
        match &self.owner {
            Some(owner) => write!(f, ".{owner}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_and_lane_has_a_text_of_its_own() {
        for text in ["normal", "low", "normal.alice-1", "low.alice-1", "low.low"] {
            assert_eq!(OwnerLane::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "high", "normal.", "normal.a.b", "alice", ".alice"] {
            assert_eq!(OwnerLane::parse(bad), None, "{bad}");
        }
    }
}
