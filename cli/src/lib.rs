//! Everything behind `warmq`, the command line, and the HTTP client that the demo and the tests use too.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`client`] | the router's HTTP API, typed |
//! | [`args`] | flags and subcommands |
//! | [`commands`] | one file per command |
//! | [`explain`] | a job's story, told from its record |
//! | [`input`] | `--input`: JSON from the command line, a file or standard input |
//! | [`pictures`] | the pictures in an output, and saving them |
//! | [`progress`] | a job's way, live |
//! | [`dry_run`] | where routes would send a submission |
//! | [`table`], [`time`] | plain text for people |
//! | [`exit`] | exit statuses, and which error has which |

pub mod args;
pub mod client;
pub mod commands;
pub mod dry_run;
pub mod exit;
pub mod explain;
pub mod input;
pub mod pictures;
pub mod progress;
pub mod table;
pub mod time;
