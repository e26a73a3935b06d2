//! A split: each target has a share of all submissions. Whose key is known goes to the same one
//! every time.
//!
//! The share is chosen by a point between 0 and 1: the first 8 bytes, big-endian, of SHA-256 over
//! the route's name, a line feed and the key, over 2^64 (of which the first 53 bits count). The
//! targets' shares lie side by side in the order of the declaration, and the one that the point
//! falls into is chosen. So all routers agree, today's and tomorrow's, and a key that goes one way
//! in one route may go another way in the next. When weights change, only the keys between the old
//! and the new borders go elsewhere.

use sha2::{Digest, Sha256};
use warmq_types::ids::AppId;

use crate::error::Trouble;
use crate::expression::{Expression, Failure, Scene};
use crate::request::Draw;

/// A declared split.
#[derive(Debug, PartialEq)]
pub struct Split {
    /// The targets.
    pub to: Vec<Share>,
    /// What keeps a submitter with one target; chance, if there is none.
    pub by: Option<Expression>,
}

/// A target and how much of all it gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// An app, or another route.
    pub app: AppId,
    /// Its part of all submissions: more than 0, and 1 for all targets together.
    pub part: f64,
}

impl Split {
    /// Where a submission to `name` goes, and why.
    pub(crate) fn choose(
        &self,
        name: &AppId,
        draw: Draw<'_>,
        scene: &Scene<'_>,
    ) -> Result<(&AppId, String), Trouble> {
        let (point, by) = match (draw, &self.by) {
            (Draw::Everywhere(key), _) => (point(name, key), "the key".to_owned()),
            (Draw::Job(id), None) => (point(name, id), "chance".to_owned()),
            (Draw::Job(id), Some(by)) => match by.text(scene) {
                Ok(Some(key)) => (point(name, &key), by.source().to_owned()),
                Ok(None) => {
                    let by = format!("chance, since {} was empty", by.source());
                    (point(name, id), by)
                }
                Err(Failure::Lacks(what)) => (
                    point(name, id),
                    format!("chance, since {what} was not given"),
                ),
                Err(Failure::Wrong(reason)) => {
                    return Err(Trouble::with(by, reason).within("by"));
                }
            },
        };
        let nowhere = || Trouble::from("it has no targets".to_owned()).within("to");
        let share = self.share(point).ok_or_else(nowhere)?;
        let reason = format!(
            "{} of 100 go there, and it was one of them by {by}",
            percent(share.part)
        );
        Ok((&share.app, reason))
    }

    /// The share that a point between 0 and 1 falls into.
    fn share(&self, point: f64) -> Option<&Share> {
        let mut border = 0.0;
        let found = self.to.iter().find(|share| {
            border += share.part;
            point < border
        });
        // The parts may sum up to a little less than 1.
        found.or(self.to.last())
    }
}

/// Where a key falls in a route, from 0 to less than 1.
fn point(name: &AppId, key: &str) -> f64 {
    let hash = Sha256::new()
        .chain_update(name.as_str())
        .chain_update("\n")
        .chain_update(key)
        .finalize();
    let high = hash
        .iter()
        .take(8)
        .fold(0_u64, |high, byte| high << 8 | u64::from(*byte));
    // 53 bits, which a float holds exactly: the last point must not be rounded up to 1.
    (high >> 11) as f64 / (1_u64 << 53) as f64
}

fn percent(part: f64) -> String {
    let percent = part * 100.0;
    match percent >= 1.0 {
        true => format!("{}", (percent * 10.0).round() / 10.0),
        false => format!("{percent:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_falls_where_it_fell_in_every_version_before() {
        let name = AppId::parse("acme/ab").unwrap();
        // printf 'acme/ab\nuser-1' | sha256sum: the first 8 bytes over 2^64.
        assert!((point(&name, "user-1") - 0.069_148_079_079).abs() < 1e-12);
        assert!((point(&name, "user-2") - 0.646_552_951_218).abs() < 1e-12);
        let other = AppId::parse("acme/other").unwrap();
        assert_ne!(point(&name, "user-1"), point(&other, "user-1"));
    }

    #[test]
    fn a_point_at_the_very_end_has_a_target() {
        let app = |name: &str| AppId::parse(name).unwrap();
        let third = |name| Share {
            app: app(name),
            part: 1.0 / 3.0,
        };
        let split = Split {
            to: vec![third("a/1"), third("a/2"), third("a/3")],
            by: None,
        };
        let at = |point| split.share(point).unwrap().app.as_str().to_owned();
        assert_eq!(
            [at(0.0), at(0.34), at(0.67), at(1.0)],
            ["a/1", "a/2", "a/3", "a/3"]
        );
    }
}
