//! `warmq man`

use std::io::Write;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::args::Cli;
use crate::exit;

/// Prints the manual page: all commands on one page, since they are few.
pub(super) fn run() -> anyhow::Result<u8> {
    std::io::stdout().write_all(&page()?)?;
    Ok(exit::OK)
}

/// Returns the page as roff.
fn page() -> std::io::Result<Vec<u8>> {
    let mut root = Cli::command();
    root.build();
    let mut page = Vec::new();
    let man = Man::new(root.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut heading = Roff::new();
    heading.control("SH", ["COMMANDS"]);
    heading.to_writer(&mut page)?;
    for command in root.get_subcommands() {
        describe(command, &mut page)?;
    }
    man.render_extra_section(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// Appends a command with its flags, and the commands below it.
fn describe(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    if command.get_name() == "help" {
        return Ok(());
    }
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let mut entry = Roff::new();
    entry.control("SS", [usage.as_str()]);
    if let Some(about) = command.get_about() {
        entry.text([roman(about.to_string())]);
    }
    for argument in command.get_arguments() {
        let is_global = argument.is_global_set() || argument.get_id() == "help";
        let help = argument.get_long_help().or(argument.get_help());
        if let (false, Some(help)) = (is_global, help) {
            entry.control("TP", []);
            entry.text([clap_mangen::roff::bold(argument.to_string())]);
            entry.text([roman(help.to_string())]);
        }
    }
    entry.to_writer(page)?;
    for below in command.get_subcommands() {
        describe(below, page)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_command_and_flag() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        let plain = page.replace('\\', "");
        for text in [
            ".TH warmq 1",
            "warmq jobs",
            "warmq keys create",
            "warmq keys set",
            "--max-running",
            "--state",
            "--follow",
            "Exit status",
            "WARMQ_URL",
        ] {
            assert!(plain.contains(text), "{text} is missing:\n{plain}");
        }
    }
}
