//! The process of a model server that the worker starts: restarted when it exits, logged, ended
//! with the worker.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncRead;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use url::Url;
use warmq_process::retry::Delays;

use super::options::PORT;
use super::server::Server;
use crate::engine::BuildError;

/// Time for the process to exit after SIGTERM.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// A process that ran for this long is restarted without delay.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// Timeout for the last lines of a process that exited.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(500);

/// Length limit of a line of output, bytes; the rest of the line is dropped.
const MAX_LINE_BYTES: usize = 8 << 10;

/// Timeout for finding out whether a port is in use.
const PORT_TIMEOUT: Duration = Duration::from_millis(500);

/// Starts the process, and returns its supervision, which ends with the worker.
///
/// # Errors
/// The program does not exist, or cannot be executed.
pub(super) async fn start(
    server: Arc<Server>,
    command: Vec<String>,
    upstream: Option<Url>,
) -> Result<impl Future<Output = ()>, BuildError> {
    let process = Process {
        server,
        command,
        upstream,
    };
    let first = match process.spawn().await {
        Err(SpawnError::Program(error)) => {
            let program = process.command.first().map_or("", String::as_str);
            let reason = format!("spawn: '{program}' cannot be started: {error}");
            return Err(BuildError::Setting(reason));
        }
        first => first,
    };
    Ok(process.supervise(first))
}

struct Process {
    server: Arc<Server>,
    command: Vec<String>,
    upstream: Option<Url>,
}

/// Why the process did not start.
#[derive(Debug, thiserror::Error)]
enum SpawnError {
    #[error("cannot be started: {0}")]
    Program(std::io::Error),
    #[error("cannot be started: {0} is in use by another program: stop it, or use {PORT}")]
    PortInUse(Url),
    #[error("cannot be started: no port is free: {0}")]
    NoPort(std::io::Error),
}

impl Process {
    /// Restarts the process whenever it exits, with growing delays, until the worker stops.
    async fn supervise(self, first: Result<Running, SpawnError>) {
        let mut delays = Delays::self_test();
        let mut next = Some(first);
        loop {
            let started = match next.take() {
                Some(first) => first,
                None => self.spawn().await,
            };
            let since = Instant::now();
            let reason = match started {
                Ok(mut running) => {
                    let reason = self.until_exit(&mut running).await;
                    running.end().await;
                    reason
                }
                Err(error) => error.to_string(),
            };
            if self.server.stop.is_cancelled() {
                return;
            }
            if since.elapsed() >= STABLE_AFTER {
                delays.reset();
            }
            let delay = delays.next_delay();
            tracing::warn!(
                reason,
                retry_in_ms = delay.as_millis() as u64,
                "the model server does not run: restarting it"
            );
            self.server.set_process(Err(reason));
            let waited = self
                .server
                .stop
                .run_until_cancelled(tokio::time::sleep(delay));
            if waited.await.is_none() {
                return;
            }
        }
    }

    /// Waits until the process exits, or must be ended. Returns the reason.
    async fn until_exit(&self, running: &mut Running) -> String {
        tokio::select! {
            exited = running.child.wait() => {
                running.read_output().await;
                let how = exited.map_or_else(|error| error.to_string(), exit);
                match running.last_line() {
                    Some(line) => format!("{how}: {line}"),
                    None => how,
                }
            }
            () = self.server.restart.notified() => "is being restarted".to_owned(),
            () = self.server.stop.cancelled() => "is being stopped".to_owned(),
        }
    }

    async fn spawn(&self) -> Result<Running, SpawnError> {
        let url = match &self.upstream {
            Some(url) if is_in_use(url).await => return Err(SpawnError::PortInUse(url.clone())),
            Some(url) => url.clone(),
            None => free_address().await.map_err(SpawnError::NoPort)?,
        };
        let port = url.port_or_known_default().unwrap_or_default().to_string();
        let words = self.command.iter().map(|word| word.replace(PORT, &port));
        let words: Vec<String> = words.collect();
        let (program, arguments) = words
            .split_first()
            .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("PORT", &port)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its children end with it.
            .process_group(0)
            .kill_on_drop(true);
        end_with_worker(&mut command);
        let mut child = command.spawn().map_err(SpawnError::Program)?;
        let last_line = Arc::new(Mutex::new(None));
        let outputs = [
            child.stdout.take().map(boxed),
            child.stderr.take().map(boxed),
        ];
        let outputs = outputs.map(|output| {
            let (server, last_line) = (self.server.clone(), last_line.clone());
            tokio::spawn(log(server, output, last_line))
        });
        tracing::info!(pid = child.id(), %url, "started the model server");
        // A request to restart the previous process.
        let _ = self.server.restart.notified().now_or_never();
        self.server.set_process(Ok(url));
        Ok(Running {
            group: child.id().map(|id| Pid::from_raw(id.cast_signed())),
            child,
            outputs,
            last_line,
        })
    }
}

/// A process and its children.
struct Running {
    child: Child,
    group: Option<Pid>,
    /// Tasks that log its standard output and error.
    outputs: [JoinHandle<()>; 2],
    last_line: Arc<Mutex<Option<String>>>,
}

impl Running {
    /// Waits until the output of a process that exited is logged; not for what its children write.
    async fn read_output(&mut self) {
        let [stdout, stderr] = &mut self.outputs;
        let read = async { tokio::join!(stdout, stderr) };
        // Late lines are logged, but are no reason for the exit.
        let _ = tokio::time::timeout(OUTPUT_TIMEOUT, read).await;
    }

    fn last_line(&self) -> Option<String> {
        let line = self.last_line.lock();
        line.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the process and its children: SIGTERM, and SIGKILL after [`EXIT_TIMEOUT`].
    async fn end(mut self) {
        self.signal(Signal::SIGTERM);
        let exited = tokio::time::timeout(EXIT_TIMEOUT, self.child.wait()).await;
        if exited.is_err() {
            tracing::warn!("the model server did not exit in time: killing it");
        }
        self.signal(Signal::SIGKILL);
        // It cannot refuse.
        let _ = self.child.wait().await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // Fails if all its processes have exited.
            let _ = killpg(group, signal);
        }
    }
}

/// Logs the lines of an output, with the jobs that run meanwhile.
async fn log(
    server: Arc<Server>,
    output: Option<Box<dyn AsyncRead + Send + Unpin>>,
    last_line: Arc<Mutex<Option<String>>>,
) {
    let Some(output) = output else { return };
    let mut lines = FramedRead::new(output, LinesCodec::new_with_max_length(MAX_LINE_BYTES));
    while let Some(line) = lines.next().await {
        let line = match line {
            Ok(line) => line,
            Err(LinesCodecError::MaxLineLengthExceeded) => continue,
            // Not UTF-8.
            Err(LinesCodecError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                continue;
            }
            Err(LinesCodecError::Io(_)) => return,
        };
        let jobs = server.running();
        let jobs: Vec<String> = jobs.iter().map(ToString::to_string).collect();
        tracing::info!(job.id = jobs.join(","), "model server: {line}");
        if !line.trim().is_empty() {
            *last_line.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
        }
    }
}

fn boxed(output: impl AsyncRead + Send + Unpin + 'static) -> Box<dyn AsyncRead + Send + Unpin> {
    Box::new(output)
}

/// Kills the process when the worker ends, however that ends.
#[allow(
    unsafe_code,
    reason = "code between fork and exec has no safe interface"
)]
fn end_with_worker(command: &mut Command) {
    // SAFETY: prctl may be called between fork and exec, and takes no pointer here.
    unsafe {
        command.pre_exec(
            || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            },
        );
    }
}

fn exit(status: ExitStatus) -> String {
    format!("exited ({status})")
}

/// Returns an address of this machine with a free port.
async fn free_address() -> std::io::Result<Url> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    Url::parse(&url).map_err(std::io::Error::other)
}

/// Returns whether something accepts connections there already.
async fn is_in_use(url: &Url) -> bool {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return false;
    };
    let connected = TcpStream::connect((host, port));
    matches!(
        tokio::time::timeout(PORT_TIMEOUT, connected).await,
        Ok(Ok(_))
    )
}
