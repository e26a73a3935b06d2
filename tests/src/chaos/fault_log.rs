//! When what happened, by the clock that the processes' logs have.

use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A file of moments.
#[derive(Debug)]
pub struct FaultLog {
    file: Mutex<std::fs::File>,
    begun: Instant,
}

impl FaultLog {
    /// A new diary, whose times count from now.
    ///
    /// # Errors
    /// The file can not be made.
    pub fn begin(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            file: Mutex::new(std::fs::File::create(path)?),
            begun: Instant::now(),
        })
    }

    /// Writes what happens now, behind the Unix time (ms) and the seconds since the beginning.
    pub fn append(&self, what: &str) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_ms = unix.unwrap_or_default().as_millis();
        let since = self.begun.elapsed().as_secs_f64();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A diary that can not be written is no reason to stop.
        let _ = writeln!(file, "{unix_ms} {since:8.3} {what}");
    }
}
