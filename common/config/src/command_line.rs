//! The command line of another program, as a setting.

use std::str::FromStr;

/// A program and its arguments, split as a shell splits them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine(Vec<String>);

impl CommandLine {
    /// Returns the name or path of the program.
    pub fn program(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// Returns the arguments.
    pub fn arguments(&self) -> &[String] {
        self.0.get(1..).unwrap_or_default()
    }

    /// Returns the program and its arguments.
    pub fn into_words(self) -> Vec<String> {
        self.0
    }
}

impl FromStr for CommandLine {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match shlex::split(text) {
            Some(words) if !words.is_empty() => Ok(Self(words)),
            Some(_) => Err("the command is empty".to_owned()),
            None => Err(format!("a quote in '{text}' is not closed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_splits_it() {
        let command: CommandLine = "ssh gpu 'start \"my app\"'".parse().unwrap();
        assert_eq!(command.program(), "ssh");
        assert_eq!(command.arguments(), ["gpu", "start \"my app\""]);
        for (wrong, reason) in [(" ", "empty"), ("a 'b", "not closed")] {
            let error = wrong.parse::<CommandLine>().unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
