//! `warmq completions`

use std::io::Write;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::args::{Cli, CompletedShell};
use crate::exit;

/// Prints the completions for a shell.
pub(super) fn run(shell: CompletedShell) -> anyhow::Result<u8> {
    let shell = match shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Zsh => Shell::Zsh,
        CompletedShell::Fish => Shell::Fish,
    };
    // Into memory first: the generator panics if the output breaks.
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "warmq", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(exit::OK)
}
