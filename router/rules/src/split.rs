//! A split: each target has a share of all submissions. Submissions with equal keys have the same
//! target.
//!
//! The share is chosen by a point between 0 and 1: the first 8 bytes, big-endian, of SHA-256 over
//! the route's name, a line feed and the key, over 2^64 (of which the first 53 bits count). The
//! shares cover this interval in the order of the declaration. All versions of the router agree,
//! and the choices of different routes are independent. When weights change, only keys between the
//! old and the new borders change their target.

use sha2::{Digest, Sha256};
use warmq_types::ids::AppId;

use crate::evaluation_error::EvaluationError;
use crate::expression::{Expression, Failure, Variables};
use crate::request::Draw;

/// A declared split.
#[derive(Debug, PartialEq)]
pub struct Split {
    /// Targets.
    pub to: Vec<Share>,
    /// Key of a submission; its job id if absent.
    pub by: Option<Expression>,
}

/// A target with its share.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// An app, or another route.
    pub app: AppId,
    /// Part of all submissions, more than 0; the sum over all targets is 1.
    pub part: f64,
}

impl Split {
    /// Chooses the target of a submission to `name`; returns it with the reason.
    pub(crate) fn choose(
        &self,
        name: &AppId,
        draw: Draw<'_>,
        variables: &Variables<'_>,
    ) -> Result<(&AppId, String), EvaluationError> {
        let (point, by) = match (draw, &self.by) {
            (Draw::Everywhere(key), _) => (point(name, key), "the key".to_owned()),
            (Draw::Job(id), None) => (point(name, id), "the job id".to_owned()),
            (Draw::Job(id), Some(by)) => match by.text(variables) {
                Ok(Some(key)) => (point(name, &key), by.source().to_owned()),
                Ok(None) => {
                    let by = format!("the job id, since {} is empty", by.source());
                    (point(name, id), by)
                }
                Err(Failure::Missing(what)) => (
                    point(name, id),
                    format!("the job id, since {what} is absent"),
                ),
                Err(Failure::Invalid(reason)) => {
                    return Err(EvaluationError::with(by, reason).within("by"));
                }
            },
        };
        let nowhere = || EvaluationError::from("the split has no targets".to_owned()).within("to");
        let share = self.share(point).ok_or_else(nowhere)?;
        let reason = format!("its share is {} %, chosen by {by}", percent(share.part));
        Ok((&share.app, reason))
    }

    /// Returns the share of a point between 0 and 1.
    fn share(&self, point: f64) -> Option<&Share> {
        let mut border = 0.0;
        let found = self.to.iter().find(|share| {
            border += share.part;
            point < border
        });
        // The sum of the parts may be slightly less than 1.
        found.or(self.to.last())
    }
}

/// Returns the point of a key in a route, from 0 to less than 1.
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
    // A float represents 53 bits exactly: the last point must not be rounded up to 1.
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
    fn the_point_of_a_key_is_the_same_in_every_version() {
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
