//! One token that tells every part to stop, set by SIGTERM or Ctrl-C.

use tokio_util::sync::CancellationToken;

/// Logs `advice` at each SIGHUP from now on; by default the signal would end the process.
///
/// # Errors
/// The process may not install signal handlers.
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

/// A token that is cancelled at the first SIGTERM or SIGINT.
///
/// # Errors
/// The process may not install signal handlers.
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
