//! The log of faults, with the clock of the processes' logs.

use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A log file.
#[derive(Debug)]
pub struct FaultLog {
    file: Mutex<std::fs::File>,
    begun: Instant,
}

impl FaultLog {
    /// Creates the file; its relative times count from now.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn begin(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            file: Mutex::new(std::fs::File::create(path)?),
            begun: Instant::now(),
        })
    }

    /// Appends a line: Unix time (ms), seconds since the beginning, and `what`.
    pub fn append(&self, what: &str) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_ms = unix.unwrap_or_default().as_millis();
        let since = self.begun.elapsed().as_secs_f64();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A failed write is ignored: the run continues.
        let _ = writeln!(file, "{unix_ms} {since:8.3} {what}");
    }
}
