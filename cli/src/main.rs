//! `warmq`: submits jobs to a router and shows their progress and results.

use std::process::ExitCode;

use clap::Parser;
use warmq_cli::args::Cli;
use warmq_cli::{commands, exit};
use warmq_process::shutdown;
use warmq_types::text::escape_lines;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shutdown::end_with_the_reader();
    match commands::run(Cli::parse()).await {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("warmq: {}", escape_lines(&exit::sentence(&error)));
            ExitCode::from(exit::status_of(&error))
        }
    }
}
