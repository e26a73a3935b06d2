//! Logs: readable lines on standard error, JSON when `WARMQ_LOG_FORMAT=json`. `WARMQ_LOG` filters as `RUST_LOG` does.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged when `WARMQ_LOG` says nothing. lapin reports every lost connection as an error of its own;
/// we say so once, where it is handled.
const DEFAULT_FILTER: &str = "info,lapin=off,async_rs=warn";

/// Starts logging for this process; later calls do nothing.
pub fn init() {
    let filter =
        EnvFilter::try_from_env("WARMQ_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second initialisation in one process (tests) is no error.
    let _ = match std::env::var("WARMQ_LOG_FORMAT").as_deref() {
        Ok("json") => lines.json().try_init(),
        _ => lines.try_init(),
    };
}
