//! Logs: readable lines on standard error, JSON when `WARMQ_LOG_FORMAT=json`. `WARMQ_LOG` filters
//! as `RUST_LOG` does.
//!
//! An event is one line: control characters in foreign text are escaped, so no text can forge a
//! line or control the reader's terminal.

use std::fmt::Write;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::debug_fn;

use warmq_types::text::Escaped;

/// Default filter. lapin logs every lost connection as an error; warmq logs it once, where it is
/// handled.
const DEFAULT_FILTER: &str = "info,lapin=off,async_rs=warn";

/// Starts logging for this process; later calls have no effect.
pub fn init() {
    let filter =
        EnvFilter::try_from_env("WARMQ_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second initialisation in one process (tests) is not an error.
    let _ = match std::env::var("WARMQ_LOG_FORMAT").as_deref() {
        // JSON has its own escapes.
        Ok("json") => lines.json().try_init(),
        _ => lines.fmt_fields(plain_fields()).try_init(),
    };
}

/// Formats `message name=value name=value`.
fn plain_fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    debug_fn(|writer, field, value| {
        let mut escaped = Escaped(writer);
        match field.name() {
            "message" => write!(escaped, "{value:?}"),
            name => write!(escaped, "{name}={value:?}"),
        }
    })
    .delimited(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_it_contains() {
        let log = Log::default();
        let written = log.clone();
        let lines = tracing_subscriber::fmt()
            .fmt_fields(plain_fields())
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish();
        let hostile = "x\n2026-01-01T00:00:00Z  INFO all is well\r\u{1b}[2J\u{9b}1A";
        tracing::subscriber::with_default(lines, || {
            tracing::info!(text = hostile, shown = %hostile, debugged = ?hostile, n = 7, "said {hostile}");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(line.contains(" INFO "), "{line}");
        assert!(line.ends_with(" n=7"), "{line}");
        assert_eq!(line.matches("x\\n2026-01-01").count(), 4, "{line}");
    }
}
