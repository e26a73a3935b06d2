//! Routes: names that are submitted to like apps and forward to one of several, by rules that `warmq.toml` declares.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `declaration` | `[routes."owner/name"]`, read; every mistake is told with its line and column |
//! | `check` | mistakes of the routes together: names that lead nowhere, cycles, too many hops |
//! | `expression` | conditions and keys, in CEL; no other module knows the `cel` crate |
//! | `asked` | what a submission shows to expressions |
//! | `switch`, `split` | the kinds, one choice each |
//! | `resolve` | the way from the name that was submitted to, hop by hop, to an app |
//!
//! All of it is pure: no clock, no I/O, no chance. The same submission takes the same way through the same declarations, on
//! any router: where a split draws, it draws by the job's id.

mod asked;
mod check;
mod declaration;
mod expression;
mod resolve;
mod split;
mod switch;

#[cfg(test)]
mod properties;

pub use asked::{Asked, Draw};
pub use check::MOST_HOPS;
pub use declaration::{Route, Routes};
pub use expression::{Expression, LONGEST_EXPRESSION, MOST_LEVELS, MOST_VALUES};
pub use resolve::{Error, Resolved};
pub use split::{Share, Split};
pub use switch::{Rule, Switch};
