//! A class of fal's Python package as the model server: a launcher of ours, in Python, imports its
//! file and serves its endpoints. Settings of the class are defaults for those of the worker.

use std::io::Write;
use std::process::Stdio;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempPath;
use tokio::process::Command;

use super::options::PORT;

const LAUNCHER: &str = include_str!("launcher.py");

/// Timeout for importing the file, which may import torch.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(120);

/// A class and its file: `app.py::MyApp`.
#[derive(Debug, Clone)]
pub struct ClassInFile(String);

impl FromStr for ClassInFile {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("::") {
            Some((file, class)) if !file.is_empty() && !class.is_empty() => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(format!("'{text}' is not a file and a class: app.py::MyApp")),
        }
    }
}

/// A class of fal's package, and the Python that runs it.
#[derive(Debug, Clone)]
pub struct FalApp {
    class: ClassInFile,
    python: String,
    /// The launcher's file, deleted with the worker.
    launcher: Arc<TempPath>,
}

/// Settings of the class, where it has them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct ClassSettings {
    /// What it needs: `GPU-A100`.
    pub(crate) machine_type: Option<String>,
    /// Jobs at a time.
    pub(crate) max_multiplexing: Option<u16>,
    /// Timeout of a job, s.
    request_timeout: Option<f64>,
    /// Timeout until it takes jobs, s.
    startup_timeout: Option<f64>,
}

impl FalApp {
    /// Writes the launcher to a temporary file.
    ///
    /// # Errors
    /// The folder for temporary files cannot be written.
    pub(super) fn new(class: ClassInFile, python: String) -> std::io::Result<Self> {
        let mut file = tempfile::Builder::new()
            .prefix("warmq-fal-")
            .suffix(".py")
            .tempfile()?;
        file.write_all(LAUNCHER.as_bytes())?;
        Ok(Self {
            class,
            python,
            launcher: Arc::new(file.into_temp_path()),
        })
    }

    /// Returns the command that serves the class at [`PORT`].
    pub(super) fn command(&self) -> Vec<String> {
        let launcher = self.launcher.display().to_string();
        // Unbuffered output.
        let words = [&self.python, "-u", &launcher, &self.class.0, "--port", PORT];
        words.map(str::to_owned).to_vec()
    }

    /// Imports the file and returns the settings of the class.
    ///
    /// # Errors
    /// A sentence: the last line of the launcher's output.
    pub(super) async fn describe(&self) -> Result<ClassSettings, String> {
        let output = Command::new(&self.python)
            .arg(&**self.launcher)
            .args([&self.class.0, "--describe"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(DESCRIBE_TIMEOUT, output).await;
        let output = output
            .map_err(|_| {
                format!(
                    "importing it takes more than {} s",
                    DESCRIBE_TIMEOUT.as_secs()
                )
            })?
            .map_err(|error| format!("'{}' cannot be started: {error}", self.python))?;
        // The file may print while it is imported.
        let stdout = String::from_utf8_lossy(&output.stdout);
        let settings = last_line(&stdout).and_then(|line| serde_json::from_str(line).ok());
        settings.ok_or_else(|| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let reason = last_line(&stderr).unwrap_or("it printed nothing");
            reason.to_owned()
        })
    }
}

impl ClassSettings {
    pub(super) fn request_timeout(&self) -> Option<Duration> {
        seconds(self.request_timeout)
    }

    pub(super) fn startup_timeout(&self) -> Option<Duration> {
        seconds(self.startup_timeout)
    }
}

fn seconds(number: Option<f64>) -> Option<Duration> {
    let duration = Duration::try_from_secs_f64(number?).ok();
    duration.filter(|duration| !duration.is_zero())
}

fn last_line(text: &str) -> Option<&str> {
    text.lines().rfind(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_a_file_and_a_name() {
        assert!("apps/app.py::MyApp".parse::<ClassInFile>().is_ok());
        for text in ["app.py", "app.py::", "::MyApp", ""] {
            let error = text.parse::<ClassInFile>().unwrap_err();
            assert!(error.contains("app.py::MyApp"), "{error}");
        }
    }

    #[test]
    fn settings_that_a_class_has_not_are_null() {
        let line = r#"{"machine_type": "S", "max_multiplexing": null, "request_timeout": 0.5}"#;
        let settings: ClassSettings = serde_json::from_str(line).unwrap();
        assert_eq!(settings.machine_type.as_deref(), Some("S"));
        assert_eq!(settings.max_multiplexing, None);
        assert_eq!(settings.request_timeout(), Some(Duration::from_millis(500)));
        assert_eq!(settings.startup_timeout(), None);
        assert_eq!(seconds(Some(-1.0)), None);
    }

    #[test]
    fn the_last_line_with_text_counts() {
        assert_eq!(
            last_line("Traceback\nValueError: no\n\n"),
            Some("ValueError: no")
        );
        assert_eq!(last_line(" \n"), None);
    }
}
