//! A child process: signals, log, end.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::error::Error;
use crate::eventually::{TimedOut, eventually};

/// Lines of a log in an error.
const TAIL_LINES: usize = 15;

/// Timeout for the end of a killed child.
const REAP_TIMEOUT: Duration = Duration::from_secs(2);

/// A running child. Dropping it kills it (SIGKILL) alone.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    log: PathBuf,
    out: PathBuf,
}

impl Process {
    /// Starts `command` with standard error appended to `<folder>/<name>.log` and standard output
    /// in a new `<folder>/<name>.out`. A restarted process continues its log.
    ///
    /// # Errors
    /// The program cannot be executed, or the files cannot be created.
    pub fn spawn(mut command: Command, name: &str, folder: &Path) -> Result<Self, Error> {
        let log = folder.join(format!("{name}.log"));
        // A new file, so that lines of an earlier process of that name do not count.
        let out = folder.join(format!("{name}.out"));
        let child = append(&log)
            .and_then(|stderr| Ok((stderr, std::fs::File::create(&out)?)))
            .and_then(|(stderr, stdout)| {
                command
                    .stdin(Stdio::null())
                    .stdout(stdout)
                    .stderr(stderr)
                    .kill_on_drop(true)
                    .spawn()
            })
            .map_err(Error::io(format!("starting {name}")))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let Some(pid) = pid.map(Pid::from_raw) else {
            return Err(Error::Setting {
                what: "process id",
                reason: format!("{name} has none"),
            });
        };
        Ok(Self {
            name: name.to_owned(),
            child,
            pid,
            log,
            out,
        })
    }

    /// Returns the stem of its log's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Returns the file of its log (standard error).
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Returns the last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Returns its standard output so far.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Sends SIGKILL, as at a power failure, and waits for the end.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn kill9(&mut self) -> Result<(), Error> {
        self.child
            .kill()
            .await
            .map_err(Error::io(format!("killing {}", self.name)))
    }

    /// Sends SIGTERM, as systemd and Kubernetes do. Follow with [`Process::wait`].
    ///
    /// # Errors
    /// It is gone already.
    pub fn terminate(&self) -> Result<(), Error> {
        self.signal(Signal::SIGTERM)
    }

    /// Sends SIGHUP: reload the configuration.
    ///
    /// # Errors
    /// It is gone already.
    pub fn hang_up(&self) -> Result<(), Error> {
        self.signal(Signal::SIGHUP)
    }

    /// Sends SIGSTOP, which simulates a hang: connections stay open without responses.
    ///
    /// # Errors
    /// It is gone already.
    pub fn freeze(&self) -> Result<(), Error> {
        self.signal(Signal::SIGSTOP)
    }

    /// Sends SIGCONT to a frozen process.
    ///
    /// # Errors
    /// It is gone already.
    pub fn resume(&self) -> Result<(), Error> {
        self.signal(Signal::SIGCONT)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end within `timeout`.
    pub async fn wait(&mut self, timeout: Duration) -> Result<ExitStatus, Error> {
        match tokio::time::timeout(timeout, self.child.wait()).await {
            Ok(status) => status.map_err(Error::io(format!("waiting for {}", self.name))),
            Err(_) => Err(Error::TimedOut(TimedOut {
                what: format!("{} ended", self.name),
                timeout,
            })),
        }
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// It is gone already, or does not end within `timeout`.
    pub async fn stop(&mut self, timeout: Duration) -> Result<ExitStatus, Error> {
        self.terminate()?;
        self.wait(timeout).await
    }

    /// Returns the resident memory, bytes; `None` once the process is gone.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    }

    /// Returns the exit status; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until `probe` returns a value; fails at once if the process ends before.
    pub(crate) async fn ready<T>(
        &mut self,
        timeout: Duration,
        mut probe: impl AsyncFnMut(&Self) -> Option<T>,
    ) -> Result<T, Error> {
        let found = eventually("it is ready", timeout, async || {
            match self.ended() {
                // Output from before the end does not count.
                Some(status) => Some(Err(status)),
                None => probe(self).await.map(Ok),
            }
        })
        .await;
        let (name, log, tail) = (self.name.clone(), self.log.clone(), self.log_tail());
        match found {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(status)) => Err(Error::Ended {
                name,
                status,
                log,
                tail,
            }),
            Err(TimedOut { timeout, .. }) => Err(Error::NotReady {
                name,
                waited: timeout,
                log,
                tail,
            }),
        }
    }

    /// Sends a signal. The child is unreaped while this handle has it, so its id cannot be reused.
    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let sent = match self.child.id() {
            Some(_) => kill(self.pid, signal),
            None => Err(nix::Error::ESRCH),
        };
        sent.map_err(|source| Error::Signal {
            name: self.name.clone(),
            source,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.start_kill().is_err() {
            return;
        }
        // Reaped here, since tokio's own reaper may not run any more.
        let deadline = Instant::now() + REAP_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn append(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, folder: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn(command, "child", folder).unwrap()
    }

    fn alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn dropping_the_handle_kills_and_reaps_the_child_even_when_frozen() {
        let folder = tempfile::tempdir().unwrap();
        let child = shell("exec sleep 60", folder.path());
        let pid = child.pid();
        child.freeze().unwrap();
        drop(child);
        assert!(!alive(pid));
    }

    #[tokio::test]
    async fn a_child_that_ends_early_fails_readiness_at_once_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell("echo 'no such model' >&2; exit 3", folder.path());
        let ready = child.ready(Duration::from_secs(20), async |_| None::<()>);
        let error = ready.await.unwrap_err().to_string();
        assert!(error.contains("no such model"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
    }

    #[tokio::test]
    async fn a_terminated_child_can_be_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell("exec sleep 60", folder.path());
        child.terminate().unwrap();
        let status = child.wait(Duration::from_secs(10)).await.unwrap();
        assert!(!status.success());
        assert!(matches!(child.freeze(), Err(Error::Signal { .. })));
    }

    #[tokio::test]
    async fn standard_output_and_log_are_apart() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell("echo out; echo err >&2", folder.path());
        child.wait(Duration::from_secs(10)).await.unwrap();
        assert_eq!(child.output(), "out\n");
        assert_eq!(child.log_tail(), "err");
    }
}
