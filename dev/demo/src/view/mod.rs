//! Progress of a run: live lines on a terminal, plain lines elsewhere.

mod bars;
mod lines;

use std::io::IsTerminal;

use bars::Bars;
use lines::Lines;

use crate::snapshot::Snapshot;

/// Shows snapshots.
pub enum View {
    /// On a terminal.
    Bars(Bars),
    /// In a file or pipe.
    Lines(Lines),
}

impl View {
    /// Creates the view that fits standard output, for `jobs` jobs.
    pub fn new(jobs: usize) -> Self {
        if std::io::stdout().is_terminal() {
            Self::Bars(Bars::new(jobs))
        } else {
            Self::Lines(Lines::new(jobs))
        }
    }

    /// Shows the changes.
    pub fn show(&mut self, snapshot: &Snapshot) {
        match self {
            Self::Bars(bars) => bars.show(snapshot),
            Self::Lines(lines) => lines
                .show(snapshot)
                .iter()
                .for_each(|line| println!("{line}")),
        }
    }

    /// Prints a line that stays.
    pub fn println(&self, text: &str) {
        match self {
            Self::Bars(bars) => bars.println(text),
            Self::Lines(_) => println!("{text}"),
        }
    }

    /// Removes the live lines.
    pub fn end(self) {
        if let Self::Bars(bars) = self {
            bars.end();
        }
    }
}
