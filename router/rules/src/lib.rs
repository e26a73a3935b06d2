//! Routes: names that accept submissions like apps and forward them to one app or to several in
//! sequence, by rules that `warmq.toml` declares.
//!
//! | module | contents |
//! | --- | --- |
//! | `declaration` | parses `[routes."owner/name"]` and locates every mistake |
//! | `route_graph` | mistakes across routes: unknown targets, cycles, too many hops |
//! | `expression` | conditions, keys and templates in CEL; the only module that uses `cel` |
//! | `template` | inputs of steps and outputs of flows: tables whose texts are expressions |
//! | `request` | the parts of a submission that expressions can read |
//! | `switch`, `split` | kinds that choose one target at submission |
//! | `flow` | kinds with steps: `sequence` and `fallback` |
//! | `error` | why a submission has no target, or a step no input |
//! | `resolve` | the target of a submission, hop by hop: an app or a flow |
//! | `reachability` | names that a route can reach, and the part of the file that declares them |
//!
//! Everything is pure: no clock, no I/O, no chance. The same submission has the same target on
//! every router: a split draws by the job's id. Routers run flows; the inputs of steps are computed
//! here.

mod declaration;
mod evaluation_error;
mod expression;
mod flow;
mod reachability;
mod request;
mod resolve;
mod route_graph;
mod split;
mod switch;
mod template;

#[cfg(test)]
mod proptests;

pub use declaration::{Route, Routes};
pub use evaluation_error::Error;
pub use expression::{Expression, MAX_EXPRESSION_BYTES, MAX_LEVELS, MAX_VALUES};
pub use flow::{DeclaredFlow, DeclaredStep, Fallback, MAX_STEPS, Sequence};
pub use reachability::{apps_in_conditions, excerpt, reachable};
pub use request::{AppLoadEstimate, Draw, RouteRequest};
pub use resolve::{Resolved, resolve};
pub use route_graph::MAX_HOPS;
pub use split::{Share, Split};
pub use switch::{Rule, Switch};
pub use template::Template;
