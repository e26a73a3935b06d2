//! `warmq-router`: reads its settings, then [`warmq_router::run`].

use std::process::ExitCode;

use clap::Parser;
use warmq_config::{EXIT_BAD_CONFIG, EXIT_UNAVAILABLE};
use warmq_process::shutdown;
use warmq_process::telemetry;
use warmq_router::access::OpenToStrangers;
use warmq_router::config::{Args, Config};
use warmq_types::text::with_causes;

fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::init();
    let config = match Config::read(&args) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("warmq-router: {problems}");
            return ExitCode::from(EXIT_BAD_CONFIG);
        }
    };
    match serve(config, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("warmq-router: {}", with_causes(error.as_ref()));
            ExitCode::from(match needs_other_settings(&error) {
                true => EXIT_BAD_CONFIG,
                false => EXIT_UNAVAILABLE,
            })
        }
    }
}

/// Returns whether a restart fails again unless an operator changes something.
fn needs_other_settings(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<warmq_store::Error>();
    error.is::<OpenToStrangers>() || matches!(refused, Some(warmq_store::Error::Incompatible(_)))
}

#[tokio::main]
async fn serve(config: Config, args: Args) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal()?;
    warmq_router::run(config, args, shutdown).await
}
