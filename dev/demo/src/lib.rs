//! `make demo`: a router, two runners and later a third, and 24 real jobs over three models; first
//! with policy `warm`, then the same jobs on a plain shared queue.
//!
//! | module | contents |
//! | --- | --- |
//! | [`args`] | flags |
//! | [`models`] | checks the models, computes a memory budget for two of them |
//! | [`plan`] | the 24 jobs, and the waves in which they are submitted |
//! | [`routing`] | policy `warm`, or a shared queue |
//! | [`submit`] | submission by HTTP and AMQP |
//! | [`demo`] | both runs and their comparison |
//! | [`run`] | one run: start, submit, poll, stop |
//! | [`snapshot`] | jobs and runners as the router reports them |
//! | [`view`] | live lines on a terminal, plain lines elsewhere |
//! | [`report`] | the table, the totals, and the reasons of decisions |
//! | [`decision_kind`] | kinds of routing decisions, for the table |
//! | [`costs`] | the cost of each run, side by side |
//! | [`sheet`] | the contact sheet, and a sheet of a pipeline's steps |
//! | [`pictures`] | fetches, saves and compares the pictures |

pub mod args;
pub mod costs;
pub mod decision_kind;
pub mod demo;
pub mod models;
pub mod pictures;
pub mod plan;
pub mod report;
pub mod routing;
pub mod run;
pub mod sheet;
pub mod snapshot;
pub mod submit;
pub mod view;
