//! The failure table of docs/failure-modes.md: a part dies or hangs, and every accepted job ends
//! with one result. Other rows have files beside this folder.
//!
//! | file | what dies in it |
//! | --- | --- |
//! | `submitters` | a submitter, before the confirm or the response |
//! | `dispatchers` | the router that dispatches; all of them |
//! | `runners` | a worker, at each step of a job; its queue |
//! | `broker` | RabbitMQ: killed, frozen, out of memory |
//! | `stops` | none: a worker or a router is stopped |
//! | `rolling_restart` | none: every process is replaced under load |

mod broker;
mod dispatchers;
mod rolling_restart;
mod runners;
mod stops;
mod submitters;

use std::time::Duration;

/// A runner's lease (15 s), the retry tier that parks its job (5 s or 30 s), and a margin.
const AFTER_A_CRASH: Duration = Duration::from_secs(60);
