//! Chromium's WebDriver server, which starts headless browsers for tests of web pages.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use crate::error::Error;
use crate::process::Process;

/// Timeout of the start, on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// What it prints before its port.
const ANNOUNCEMENT: &str = "started successfully on port ";

/// A running WebDriver server. Its browsers end with their sessions.
#[derive(Debug)]
pub struct Chromedriver {
    _process: Process,
    url: String,
}

impl Chromedriver {
    /// Starts it on a free port, with its log in `folder`.
    ///
    /// # Errors
    /// It is not installed, or did not get ready.
    pub async fn start(folder: &Path) -> Result<Self, Error> {
        let mut command = Command::new("chromedriver");
        // Chromium writes below its home and temporary folders.
        command
            .arg("--port=0")
            .env("HOME", folder)
            .env("TMPDIR", folder);
        let mut process =
            Process::spawn(command, "chromedriver", folder).map_err(|error| match error {
                Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    Error::NoServer {
                        program: "chromedriver",
                        package: "chromium-driver",
                    }
                }
                error => error,
            })?;
        let url = process
            .ready(READY_TIMEOUT, async |process| {
                let output = process.output();
                let (_, port) = output.split_once(ANNOUNCEMENT)?;
                let (port, _) = port.split_once('.')?;
                Some(format!("http://127.0.0.1:{port}"))
            })
            .await?;
        Ok(Self {
            _process: process,
            url,
        })
    }

    /// Returns its URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}
