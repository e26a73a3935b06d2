//! `warmq-worker`: reads its settings, then [`warmq_worker::run`].

use std::process::ExitCode;

use clap::Parser;
use warmq_common::config::EXIT_BAD_CONFIG;
use warmq_common::plain::with_causes;
use warmq_common::{shutdown, telemetry};
use warmq_worker::config::{Args, Config};

fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::init();
    let config = match Config::read(&args) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("warmq-worker: {problems}");
            return ExitCode::from(EXIT_BAD_CONFIG);
        }
    };
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("warmq-worker: {}", with_causes(error.as_ref()));
            let code = error
                .downcast_ref()
                .map_or(1, warmq_worker::Error::exit_code);
            ExitCode::from(code)
        }
    }
}

#[tokio::main]
async fn serve(config: Config) -> anyhow::Result<()> {
    shutdown::survive_hangups(
        "a worker reads its settings at its start only: restart it to change them",
    )?;
    let stop = shutdown::on_signal()?;
    Ok(warmq_worker::run(config, stop).await?)
}
