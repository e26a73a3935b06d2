//! The command line `warmq`, and the HTTP client that the demo and the tests use as well.
//!
//! | module | contents |
//! | --- | --- |
//! | [`client`] | the router's HTTP API, typed |
//! | [`args`] | flags and subcommands |
//! | [`commands`] | one file per command |
//! | [`input`] | `--input`: JSON from the command line, a file or standard input |
//! | [`pictures`] | the pictures in an output, and saving them |
//! | [`progress`] | live progress of a job |
//! | [`dry_run`] | where routes would send a submission |
//! | [`top`] | runners, queues and jobs, live |
//! | [`time`] | formatting |
//! | [`exit`] | exit statuses, and the errors that map to them |

pub mod args;
pub mod client;
pub mod commands;
pub mod dry_run;
pub mod exit;
pub mod input;
pub mod pictures;
pub mod progress;
pub mod time;
pub mod top;
