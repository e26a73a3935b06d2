//! The failure table of ARCHITECTURE.md, row by row: something dies or hangs, and every accepted job ends all the same, with
//! one result. Rows that are promises of their own stand in files of their own beside this folder.
//!
//! | file | what dies in it |
//! | --- | --- |
//! | `submitters` | who submits, before it is told |
//! | `dispatchers` | the router that dispatches; all of them |
//! | `runners` | a worker, at each point of a job's way through it; its queue |
//! | `broker` | RabbitMQ: killed, frozen, out of memory |
//! | `stops` | nothing: a worker or a router is asked to stop |
//! | `rolling_restart` | nothing: everything is replaced under load |

mod broker;
mod dispatchers;
mod rolling_restart;
mod runners;
mod stops;
mod submitters;

use std::time::Duration;

/// A runner's lease (15 s), the retry tier that parks its job (5 s or 30 s), and some air.
const AFTER_A_CRASH: Duration = Duration::from_secs(60);
