//! One call of the hook: `CMD APP WANTED`, in a process group of its own, which is killed if it
//! does not end in time. What a hook that ended leaves running continues.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use warmq_config::CommandLine;
use warmq_types::ids::AppId;

use super::hook_calls::Target;

/// Timeout of a call.
pub(super) const TIMEOUT: Duration = Duration::from_secs(120);

/// Timeout for the last lines of a hook that ended: what it left running may keep the pipe open.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(500);

/// Length limit of a line, bytes; longer ones are skipped.
const MAX_LINE_BYTES: usize = 8 << 10;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    #[error("'{program}' cannot be started: {error}")]
    NotStarted {
        program: String,
        error: std::io::Error,
    },
    #[error("it failed ({status}){}", after_colon(.last_line))]
    Failed {
        status: ExitStatus,
        last_line: Option<String>,
    },
    #[error("it did not end within {} s and was killed", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("its end is unknown: {0}")]
    Lost(std::io::Error),
}

fn after_colon(line: &Option<String>) -> String {
    (line.as_ref()).map_or_else(String::new, |line| format!(": {line}"))
}

/// Calls the hook and waits for its end.
///
/// # Errors
/// It cannot be started, fails, or does not end within `timeout`.
pub(super) async fn call(
    hook: &CommandLine,
    app: &AppId,
    target: Target,
    timeout: Duration,
) -> Result<(), HookError> {
    let wanted = target.wanted.to_string();
    let mut command = Command::new(hook.program());
    command
        .args(hook.arguments())
        .args([app.as_str(), &wanted])
        .env("WARMQ_APP", app.as_str())
        .env("WARMQ_WANTED", &wanted)
        .env("WARMQ_RUNNERS", target.runners.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command.spawn().map_err(|error| HookError::NotStarted {
        program: hook.program().to_owned(),
        error,
    })?;
    let group = Group::of(&child);
    let output = Output::read(app, child.stderr.take());
    let ended = tokio::time::timeout(timeout, child.wait()).await;
    let Ok(ended) = ended else {
        drop(group);
        // It cannot refuse.
        let _ = child.wait().await;
        return Err(HookError::TimedOut(timeout));
    };
    group.release();
    match ended.map_err(HookError::Lost)? {
        status if status.success() => Ok(()),
        status => Err(HookError::Failed {
            status,
            last_line: output.last_line().await,
        }),
    }
}

/// A process and its children: killed when dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().map(|id| Pid::from_raw(id.cast_signed())))
    }

    /// Lets the processes that still run continue.
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Fails if all its processes have ended.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// The standard error of a hook. It is read for as long as a process has it, since a process that
/// the hook left running may write to it.
struct Output {
    last_line: Arc<Mutex<Option<String>>>,
    reading: JoinHandle<()>,
}

impl Output {
    fn read(app: &AppId, output: Option<ChildStderr>) -> Self {
        let last_line = Arc::default();
        let reading = tokio::spawn(read(app.clone(), output, Arc::clone(&last_line)));
        Self { last_line, reading }
    }

    /// Returns the last line of a hook that ended.
    async fn last_line(self) -> Option<String> {
        // Later lines are none of the hook's.
        let _ = tokio::time::timeout(OUTPUT_TIMEOUT, self.reading).await;
        let line = self.last_line.lock();
        line.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn read(app: AppId, output: Option<ChildStderr>, last_line: Arc<Mutex<Option<String>>>) {
    let Some(output) = output else { return };
    let mut lines = FramedRead::new(output, LinesCodec::new_with_max_length(MAX_LINE_BYTES));
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) if !line.trim().is_empty() => {
                tracing::debug!(%app, "scale hook: {line}");
                *last_line.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
            }
            Ok(_) | Err(LinesCodecError::MaxLineLengthExceeded) => {}
            // Not UTF-8.
            Err(LinesCodecError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {}
            Err(LinesCodecError::Io(_)) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(20);

    async fn run(script: &str, timeout: Duration) -> Result<(), String> {
        let hook = format!("sh -c {} hook", shell_word(script));
        let hook: CommandLine = hook.parse().unwrap();
        let app = AppId::parse("a/b").unwrap();
        let target = Target {
            wanted: 3,
            runners: 1,
        };
        let called = call(&hook, &app, target, timeout).await;
        called.map_err(|error| error.to_string())
    }

    fn shell_word(text: &str) -> String {
        format!("'{}'", text.replace('\'', "'\\''"))
    }

    #[tokio::test]
    async fn the_hook_gets_the_app_and_the_wanted_number() {
        let checks = "test \"$1 $2\" = 'a/b 3' && \
                      test \"$WARMQ_APP $WARMQ_WANTED $WARMQ_RUNNERS\" = 'a/b 3 1'";
        assert_eq!(run(checks, SHORT).await, Ok(()));
    }

    #[tokio::test]
    async fn a_failure_is_reported_with_the_last_line() {
        let error = run("echo first >&2; echo 'no GPU is free' >&2; exit 3", SHORT).await;
        let error = error.unwrap_err();
        assert_eq!(error, "it failed (exit status: 3): no GPU is free");
        let error = run("exit 1", SHORT).await.unwrap_err();
        assert_eq!(error, "it failed (exit status: 1)");
        let missing: CommandLine = "/no/such/hook".parse().unwrap();
        let app = AppId::parse("a/b").unwrap();
        let error = call(&missing, &app, Target::default(), SHORT).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("'/no/such/hook' cannot be started: "),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_hook_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid.display());
        // Long enough for it to write the file.
        let error = run(&script, Duration::from_secs(2)).await.unwrap_err();
        assert_eq!(error, "it did not end within 2 s and was killed");
        let child: i32 = std::fs::read_to_string(pid)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let is_alive = || {
            let state = std::fs::read_to_string(format!("/proc/{child}/stat"));
            // An orphan that nothing has waited for is dead as well.
            state.is_ok_and(|state| !state.contains(") Z "))
        };
        while is_alive() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_a_hook_leaves_running_is_not_waited_for() {
        let begin = std::time::Instant::now();
        assert_eq!(run("sleep 20 &", SHORT).await, Ok(()));
        let error = run("sleep 20 & echo late >&2; exit 1", SHORT).await;
        assert_eq!(error.unwrap_err(), "it failed (exit status: 1): late");
        assert!(begin.elapsed() < SHORT / 2);
    }
}
