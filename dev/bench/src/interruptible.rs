//! Runs a measurement of the real system until it ends or Ctrl-C.

use anyhow::{Context, bail};

/// Runs a measurement. Ctrl-C drops it, which stops its processes and cleans up.
///
/// # Errors
/// Those of the measurement; it was interrupted.
pub fn run<T>(measurement: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(async {
        tokio::select! {
            done = measurement => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    })
}
