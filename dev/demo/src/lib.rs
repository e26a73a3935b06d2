//! What `make demo` runs: a router, two runners and later a third, and 24 real jobs over three models; first with policy
//! `warm`, then the same jobs on a plain shared queue.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`args`] | flags |
//! | [`models`] | are the models there, and how much memory is room for two of them |
//! | [`plan`] | the 24 jobs, and in which waves they are submitted |
//! | [`routing`] | policy `warm`, or a shared queue |
//! | [`submit`] | the two doors: HTTP and AMQP |
//! | [`demo`] | the course of it: both runs, what they cost |
//! | [`run`] | one run: start, submit, watch, stop |
//! | [`snapshot`] | what the router says of jobs and runners, as the view wants it |
//! | [`view`] | live lines on a terminal, plain ones elsewhere |
//! | [`report`] | the table, the totals, and some routing decisions in words |
//! | [`decision_kind`] | routing decisions in a few words |
//! | [`costs`] | what each run cost, side by side |
//! | [`sheet`] | the contact sheet, and a sheet of what the steps of a pipeline make |
//! | [`pictures`] | fetching, saving and comparing the pictures |

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
