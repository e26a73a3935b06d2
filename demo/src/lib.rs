//! What `make demo` runs: a router, two runners and later a third, and 24 real jobs over three models.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`args`] | flags |
//! | [`models`] | are the models there, and how much memory is room for two of them |
//! | [`plan`] | the 24 jobs, and in which waves they are submitted |
//! | [`submit`] | the two doors: HTTP and AMQP |
//! | [`show`] | the course of it: start, submit, watch, stop |
//! | [`watch`] | what the router says of jobs and runners, as the view wants it |
//! | [`view`] | live lines on a terminal, plain ones elsewhere |
//! | [`report`] | the table, the totals, and three routing decisions in words |
//! | [`sheet`] | the contact sheet |
//! | [`pictures`] | fetching and saving the pictures |

pub mod args;
pub mod models;
pub mod pictures;
pub mod plan;
pub mod report;
pub mod sheet;
pub mod show;
pub mod submit;
pub mod view;
pub mod watch;
