//! Versions of the protocol between routers and workers: their queues, messages, records and keys.
//!
//! A build carries or ignores what it does not know ([`crate::unknown`]), so most changes need no
//! new version. [`Protocol::OURS`] grows with what the previous build would misunderstand: a new
//! state of a job, outcome or kind of flow, another meaning of a field, a renamed queue or key.

use std::fmt;
use std::str::FromStr;

/// The versions that a build works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// The oldest version that it works with.
    pub oldest: u32,
    /// The version that it speaks; at least `oldest`.
    pub speaks: u32,
}

impl Protocol {
    /// The versions of this build. Builds from before the first version count as version 1.
    pub const OURS: Self = Self {
        oldest: 1,
        speaks: 1,
    };

    /// Returns whether builds of both can run side by side: each works with what the other speaks.
    pub const fn is_compatible(self, other: Self) -> bool {
        self.speaks >= other.oldest && other.speaks >= self.oldest
    }
}

/// `<oldest> <speaks>`, as in Redis.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.oldest, self.speaks)
    }
}

/// A text that is not a protocol's versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the versions of a protocol")]
pub struct InvalidProtocol;

impl FromStr for Protocol {
    type Err = InvalidProtocol;

    /// Further words, as a newer build may write them, have no effect.
    fn from_str(text: &str) -> Result<Self, InvalidProtocol> {
        let mut versions = text.split(' ').map(str::parse);
        match (versions.next(), versions.next()) {
            (Some(Ok(oldest)), Some(Ok(speaks))) if oldest <= speaks => Ok(Self { oldest, speaks }),
            _ => Err(InvalidProtocol),
        }
    }
}

/// Two builds that cannot run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Incompatible {
    /// The versions of this build.
    pub ours: Protocol,
    /// The versions of a running router or worker.
    pub theirs: Protocol,
}

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, theirs } = self;
        match theirs.speaks < ours.oldest {
            true => write!(
                f,
                "this build speaks version {} of the protocol and works with {} or later, but running routers or workers \
                 speak version {}: upgrade those first, release by release, or stop them all",
                ours.speaks, ours.oldest, theirs.speaks
            ),
            false => write!(
                f,
                "this build speaks version {} of the protocol, but running routers or workers speak version {} and work \
                 with {} or later: install a newer release here, or stop them all",
                ours.speaks, theirs.speaks, theirs.oldest
            ),
        }?;
        f.write_str(" (docs/operations.md, Upgrades)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn protocol(oldest: u32, speaks: u32) -> Protocol {
        Protocol { oldest, speaks }
    }

    #[test]
    fn builds_work_together_if_each_works_with_what_the_other_speaks() {
        for (ours, theirs, expected) in [
            (protocol(1, 1), protocol(1, 1), true),
            (protocol(1, 2), protocol(1, 1), true),
            (protocol(2, 3), protocol(1, 2), true),
            (protocol(2, 3), protocol(1, 1), false),
            (protocol(3, 3), protocol(1, 2), false),
            // The newer build works with this one, which never refuses a newer build by itself.
            (protocol(1, 1), protocol(1, 9), true),
        ] {
            assert_eq!(ours.is_compatible(theirs), expected, "{ours}, {theirs}");
        }
    }

    #[test]
    fn a_refusal_names_both_versions_and_the_build_to_upgrade() {
        let (old, new) = (protocol(1, 1), protocol(3, 4));
        let refused = |ours, theirs| Incompatible { ours, theirs }.to_string();
        assert_eq!(
            refused(new, old),
            "this build speaks version 4 of the protocol and works with 3 or later, but running routers or workers speak \
             version 1: upgrade those first, release by release, or stop them all (docs/operations.md, Upgrades)"
        );
        assert_eq!(
            refused(old, new),
            "this build speaks version 1 of the protocol, but running routers or workers speak version 4 and work with 3 or \
             later: install a newer release here, or stop them all (docs/operations.md, Upgrades)"
        );
    }

    #[test]
    fn versions_are_read_as_they_are_written_and_with_what_a_newer_build_adds() {
        assert_eq!("1 2".parse(), Ok(protocol(1, 2)));
        assert_eq!("1 2 more".parse(), Ok(protocol(1, 2)));
        for text in ["", "1", "2 1", "1 x", "-1 2", "1  2"] {
            assert_eq!(text.parse::<Protocol>(), Err(InvalidProtocol), "{text}");
        }
    }

    proptest! {
        #[test]
        fn compatibility_is_mutual(a in 0_u32..9, b in 0_u32..9, c in 0_u32..9, d in 0_u32..9) {
            let ours = protocol(a.min(b), a.max(b));
            let theirs = protocol(c.min(d), c.max(d));
            prop_assert_eq!(ours.is_compatible(theirs), theirs.is_compatible(ours));
            prop_assert!(ours.is_compatible(ours));
            prop_assert_eq!(ours.to_string().parse(), Ok(ours));
        }
    }
}
