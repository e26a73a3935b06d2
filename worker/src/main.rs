//! `warmq-worker`: reads its settings, then [`warmq_worker::run`]; or runs a command.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use warmq_config::EXIT_BAD_CONFIG;
use warmq_process::shutdown;
use warmq_process::telemetry;
use warmq_types::text::with_causes;
use warmq_worker::commands::CommandLine;
use warmq_worker::config::Config;

fn main() -> ExitCode {
    let CommandLine { worker, command } = CommandLine::parse();
    if let Some(command) = command {
        shutdown::end_with_the_reader();
        return command.run().unwrap_or_else(|error| {
            eprintln!("warmq-worker: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        });
    }
    telemetry::init();
    let config = match Config::read(&worker) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("warmq-worker: {problems}");
            return ExitCode::from(EXIT_BAD_CONFIG);
        }
    };
    let code = match serve(config) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("warmq-worker: {}", with_causes(error.as_ref()));
            error
                .downcast_ref()
                .map_or(1, warmq_worker::Error::exit_code)
        }
    };
    end(code)
}

fn serve(config: Config) -> anyhow::Result<()> {
    // One thread: runners mostly wait, and with more of them each message wakes several. Engines
    // compute, and long work blocks, on other threads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        shutdown::survive_hangups(
            "a worker reads its settings at startup only: restart it to change them",
        )?;
        let signals = shutdown::on_signals()?;
        Ok(warmq_worker::run(config, signals).await?)
    });
    // Does not wait for a write to a storage that hangs.
    runtime.shutdown_background();
    result
}

/// Exits at once, without exit handlers: an engine that hangs may still use what they would tear
/// down.
#[allow(
    unsafe_code,
    reason = "no safe call ends a process without running exit handlers"
)]
fn end(code: u8) -> ! {
    // A failure loses nothing: there is no reader.
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    // SAFETY: _exit takes any number and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}
