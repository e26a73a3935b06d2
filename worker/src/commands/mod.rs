//! The command line: the worker itself, and commands that need no queue.
//!
//! | module | command |
//! | --- | --- |
//! | this one | none: the worker; reads the settings of [`crate::config`] |
//! | [`generate`] | `generate`: one picture from a prompt |
//! | [`check_models`] | `models check`: which models of a folder can be served |
//! | [`check_server`] | `http check`: whether a model server follows the runner protocol |

pub mod check_models;
pub mod check_server;
pub mod generate;

use std::process::ExitCode;

use crate::config::Args;

/// Runs the jobs of one app and keeps models in memory between them.
#[derive(Debug, clap::Parser)]
#[command(name = "warmq-worker", version, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    /// Settings of the worker.
    #[command(flatten)]
    pub worker: Args,
    /// A command; without one, the worker runs.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A command that needs no queue.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Generates one picture without a queue
    Generate(Box<generate::Args>),
    /// Inspects model folders
    Models {
        /// What to do.
        #[command(subcommand)]
        command: ModelsCommand,
    },
    /// Tests model servers, which engine http uses
    Http {
        /// What to do.
        #[command(subcommand)]
        command: HttpCommand,
    },
}

/// A command about model servers.
#[derive(Debug, clap::Subcommand)]
pub enum HttpCommand {
    /// Posts jobs to a server and prints which parts of the runner protocol it follows; the exit
    /// status is 1 if it breaks one
    Check(Box<check_server::Args>),
}

/// A command about model folders.
#[derive(Debug, clap::Subcommand)]
pub enum ModelsCommand {
    /// Lists the models of a folder, their memory, and why broken ones are not served; the exit
    /// status is 1 if any is broken, 2 if the folder cannot be read
    Check(check_models::Args),
}

impl Command {
    /// Runs the command and returns its exit status.
    ///
    /// # Errors
    /// The command failed.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Generate(args) => generate::run(*args).map(|()| ExitCode::SUCCESS),
            Self::Models {
                command: ModelsCommand::Check(args),
            } => Ok(check_models::run(&args)),
            Self::Http {
                command: HttpCommand::Check(args),
            } => check_server::run(*args),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn settings_need_no_command_and_commands_take_no_settings() {
        let parse = |line: &str| CommandLine::try_parse_from(line.split(' '));
        let worker = parse("warmq-worker --app a/b --engine timed").unwrap();
        assert_eq!(worker.worker.app.as_deref(), Some("a/b"));
        assert!(worker.command.is_none());
        let check = parse("warmq-worker models check models").unwrap();
        assert!(matches!(check.command, Some(Command::Models { .. })));
        assert!(parse("warmq-worker --app a/b models check models").is_err());
    }
}
