//! Traces: recorded arrivals as JSON lines (`jobs.jsonl`), one object per line, in order of time:
//!
//! ```json
//! {"at_s": 0.41, "hint": "m3", "run_s": 0.21}
//! ```
//!
//! `at_s` (also `t`, `time_s`, `arrival_s`, `at`) is the time in s since an origin at or before the
//! first line, `hint` (also `model`) the model, `run_s` (also `service_s`, `duration_s`) the warm
//! run time in s, drawn at random if missing. Other fields, empty lines and lines that start with
//! `#` are ignored.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::args::Options;
use crate::workload::{Planned, Workload};

/// Why a trace is invalid.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A line is not an arrival.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// The path.
        path: String,
        /// The line, from 1.
        line: usize,
        /// The error.
        reason: String,
    },
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(alias = "t", alias = "time_s", alias = "arrival_s", alias = "at")]
    at_s: f64,
    #[serde(alias = "model")]
    hint: String,
    #[serde(
        default,
        alias = "service_s",
        alias = "duration_s",
        skip_serializing_if = "Option::is_none"
    )]
    run_s: Option<f64>,
}

/// Reads the jobs of a trace, and the number of their models, which are numbered as they appear.
/// `run_s` draws a run time (s) for lines without one.
///
/// # Errors
/// The file cannot be read, a line is not an arrival, or lines are out of order; the message
/// contains file and line.
pub fn read(path: &Path, run_s: impl FnMut() -> f64) -> Result<(Vec<Planned>, u32), Error> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, run_s).map_err(|(line, reason)| Error::Line {
            path: name,
            line,
            reason,
        }),
        Err(source) => Err(Error::Io { path: name, source }),
    }
}

/// Prints the jobs of `sim` with the same options: a trace for `sim --trace`.
pub fn print(options: &Options) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for planned in Workload::of(options)? {
        serde_json::to_writer(&mut out, &Line::from(planned))?;
        writeln!(out)?;
    }
    Ok(out.flush()?)
}

impl From<Planned> for Line {
    fn from(planned: Planned) -> Self {
        Self {
            at_s: planned.at_s,
            hint: format!("m{}", planned.model),
            run_s: Some(planned.run_s),
        }
    }
}

fn parse(
    text: &str,
    mut run_s: impl FnMut() -> f64,
) -> Result<(Vec<Planned>, u32), (usize, String)> {
    let mut models = HashMap::new();
    let mut jobs: Vec<Planned> = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let earliest_s = jobs.last().map_or(0.0, |job| job.at_s);
        let line = line(text, earliest_s).map_err(|reason| (index + 1, reason))?;
        let next = models.len() as u32;
        jobs.push(Planned {
            at_s: line.at_s,
            model: *models.entry(line.hint).or_insert(next),
            owner: 0,
            run_s: line.run_s.unwrap_or_else(&mut run_s),
        });
    }
    Ok((jobs, models.len() as u32))
}

fn line(text: &str, earliest_s: f64) -> Result<Line, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| {
        // The parser receives one line at a time, so its line number would mislead.
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        format!(
            "{reason}; expected an object such as {{\"at_s\": 0.41, \"hint\": \"m3\", \"run_s\": 0.21}}"
        )
    })?;
    if line.at_s < earliest_s {
        return Err(format!(
            "at_s is {}, before {earliest_s}: lines must be in order of time",
            line.at_s
        ));
    }
    match line.run_s {
        Some(run_s) if run_s <= 0.0 => Err(format!("run_s is {run_s}: must be above 0")),
        _ => Ok(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_logs_use_are_understood_and_other_fields_ignored() {
        let text = "# exported\n\n\
            {\"at_s\": 0.5, \"hint\": \"a\", \"run_s\": 2}\n\
            {\"t\": 1, \"model\": \"b\", \"service_s\": 3.5, \"user\": 7}\n\
            {\"arrival_s\": 1, \"hint\": \"a\"}\n";
        let (jobs, models) = parse(text, || 9.0).unwrap();
        let planned = |at_s, model, run_s| Planned {
            at_s,
            model,
            owner: 0,
            run_s,
        };
        assert_eq!(models, 2);
        assert_eq!(
            jobs,
            [
                planned(0.5, 0, 2.0),
                planned(1.0, 1, 3.5),
                planned(1.0, 0, 9.0)
            ]
        );
    }

    #[test]
    fn a_line_that_is_no_arrival_is_named_with_its_reason() {
        for (text, line, part) in [
            ("{\"hint\": \"a\"}", 1, "missing field `at_s`"),
            ("\n{\"at_s\": 1}", 2, "missing field `hint`"),
            ("0.5,a", 1, "expected an object"),
            ("{\"at_s\": -1, \"hint\": \"a\"}", 1, "before 0"),
            (
                "{\"at_s\": 2, \"hint\": \"a\"}\n{\"at_s\": 1, \"hint\": \"a\"}",
                2,
                "in order of time",
            ),
            ("{\"at_s\": 1, \"hint\": \"a\", \"run_s\": 0}", 1, "above 0"),
        ] {
            let (at, reason) = parse(text, || 1.0).unwrap_err();
            assert!(at == line && reason.contains(part), "{at}: {reason}");
        }
    }

    #[test]
    fn a_written_trace_is_read_back() {
        let planned = Planned {
            at_s: 0.1 + 0.2,
            model: 3,
            owner: 0,
            run_s: 1.0 / 3.0,
        };
        let text = serde_json::to_string(&Line::from(planned)).unwrap();
        let (jobs, _) = parse(&text, || 1.0).unwrap();
        assert_eq!(
            jobs,
            [Planned {
                model: 0,
                ..planned
            }]
        );
    }
}
