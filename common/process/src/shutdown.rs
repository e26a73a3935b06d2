//! What ends a process: a cancellation token, set by SIGTERM or Ctrl-C; for a command, also the end
//! of the program that reads its output.

use tokio_util::sync::CancellationToken;

/// Stop signals of a process that drains.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// Cancelled at the first SIGTERM or SIGINT: take no more work.
    pub stop: CancellationToken,
    /// Cancelled at the second one: abort running work.
    pub abort: CancellationToken,
}

impl From<CancellationToken> for Signals {
    fn from(stop: CancellationToken) -> Self {
        Self {
            stop,
            ..Self::default()
        }
    }
}

/// Listens for stop signals from now on.
///
/// # Errors
/// Signal handlers cannot be installed.
pub fn on_signals() -> std::io::Result<Signals> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let signals = Signals::default();
    let Signals { stop, abort } = signals.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                tracing::info!("asked to stop again: aborting running jobs");
                abort.cancel();
            } else {
                tracing::info!("asked to stop; a second signal aborts running jobs");
                stop.cancel();
            }
        }
    });
    Ok(signals)
}

/// Logs `advice` at each SIGHUP from now on, which by default would end the process.
///
/// # Errors
/// Signal handlers cannot be installed.
pub fn survive_hangups(advice: &'static str) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            tracing::warn!("{advice}");
        }
    });
    Ok(())
}

/// Returns a token that is cancelled at the first SIGTERM or SIGINT.
///
/// # Errors
/// Signal handlers cannot be installed.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop");
        stop.cancel();
    });
    Ok(token)
}

/// Lets this process end, without a word, when the program that reads its output has ended, as in
/// `warmq apps | head -1`. Rust ignores the signal of it, so that `println!` would panic. For
/// commands only: a server outlives the readers of its log.
#[allow(unsafe_code, reason = "no safe call restores the default of a signal")]
pub fn end_with_the_reader() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default action runs no code of this process.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
