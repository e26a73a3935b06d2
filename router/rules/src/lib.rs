//! Routes: names that are submitted to like apps and forward to one of several, or to several one
//! after the other, by rules that `warmq.toml` declares.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `declaration` | `[routes."owner/name"]`, read; every mistake is told with its line and column |
//! | `check` | mistakes of the routes together: names that lead nowhere, cycles, too many hops |
//! | `expression` | conditions, keys and what templates hold, in CEL; no other module knows the `cel` crate |
//! | `template` | what steps are given and flows give: tables whose texts are expressions |
//! | `asked` | what a submission shows to expressions |
//! | `switch`, `split` | the kinds that choose at submission, one choice each |
//! | `flow` | the kinds that take steps, `sequence` and `fallback`: what they say of their steps |
//! | `error` | why there is no way, or no input for a step |
//! | `resolve` | the way from the name that was submitted to, hop by hop, to an app or a flow |
//! | `reach` | what a name can lead to, and the part of the file that says so |
//!
//! All of it is pure: no clock, no I/O, no chance. The same submission takes the same way through
//! the same declarations, on any router: where a split draws, it draws by the job's id. Routers run
//! flows; what a step is given is computed here.

mod asked;
mod check;
mod declaration;
mod error;
mod expression;
mod flow;
mod reach;
mod resolve;
mod split;
mod switch;
mod template;

#[cfg(test)]
mod proptests;

pub use asked::{AppLoadEstimate, Asked, Draw};
pub use check::MAX_HOPS;
pub use declaration::{Route, Routes};
pub use error::Error;
pub use expression::{Expression, MAX_EXPRESSION_BYTES, MAX_LEVELS, MAX_VALUES};
pub use flow::{Fallback, Flow, MAX_STEPS, Sequence, Step};
pub use resolve::Resolved;
pub use split::{Share, Split};
pub use switch::{Rule, Switch};
pub use template::Template;
