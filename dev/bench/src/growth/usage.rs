//! Processor time and memory of the parts of a system over a time.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::peers::processor_time::{Part, Process, Snapshot};

/// Measures the processor time of a system's parts from its creation on.
pub struct Meter<'a> {
    processes: &'a [(Part, Process)],
    begun: Instant,
    before: Snapshot,
}

/// What the parts used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Duration.
    pub elapsed: Duration,
    /// Processor time by part, in the order of [`Part::ALL`].
    times: [Duration; Part::ALL.len()],
}

impl<'a> Meter<'a> {
    /// Starts to measure.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn start(processes: &'a [(Part, Process)]) -> anyhow::Result<Self> {
        Ok(Self {
            processes,
            begun: Instant::now(),
            before: Snapshot::read()?,
        })
    }

    /// Returns what the parts used until now.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn read(&self) -> anyhow::Result<Usage> {
        let elapsed = self.begun.elapsed();
        let after = Snapshot::read()?;
        let mut times = [Duration::ZERO; Part::ALL.len()];
        for (part, time) in Part::ALL.iter().zip(&mut times) {
            let processes = self.processes.iter().filter(|(of, _)| of == part);
            let processes: Vec<Process> = processes.map(|(_, process)| *process).collect();
            *time = after.since(&self.before, &processes)?;
        }
        Ok(Usage { elapsed, times })
    }
}

impl Usage {
    /// Returns the processor time of a part.
    pub fn of(&self, part: Part) -> Duration {
        let all = Part::ALL.iter().zip(&self.times);
        let found = all.into_iter().find(|(of, _)| **of == part);
        found.map_or(Duration::ZERO, |(_, time)| *time)
    }

    /// Returns the processor time of all parts, the driver included.
    pub fn total(&self) -> Duration {
        self.times.iter().sum()
    }

    /// Returns a part's processor time as a fraction of one core.
    pub fn cores(&self, part: Part) -> f64 {
        self.of(part).as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

/// Returns the resident memory of a process, with that of its descendants if they count, bytes.
///
/// # Errors
/// A process has ended.
pub fn resident_bytes(process: Process) -> anyhow::Result<u64> {
    Snapshot::read()?
        .pids(process)
        .into_iter()
        .map(|pid| {
            let path = format!("/proc/{pid}/status");
            let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            let kib = resident_kib(&status).with_context(|| format!("{path} has no VmRSS"))?;
            Ok(kib * 1024)
        })
        .sum()
}

/// Parses `VmRSS` of `/proc/<pid>/status`, KiB; see proc(5).
fn resident_kib(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_parsed() {
        let status = "Name:\twarmq\nVmHWM:\t  9000 kB\nVmRSS:\t    8124 kB\nThreads:\t3\n";
        assert_eq!(resident_kib(status), Some(8124));
        assert_eq!(resident_kib("Name:\tkthreadd\n"), None);
        assert!(resident_bytes(Process::Alone(std::process::id())).unwrap() > 1 << 20);
    }

    #[test]
    fn usage_is_by_part() {
        let this = [(Part::Driver, Process::Alone(std::process::id()))];
        let meter = Meter::start(&this).unwrap();
        // Ends with what it waits for: the time that it takes.
        let usage = loop {
            let usage = meter.read().unwrap();
            if !usage.total().is_zero() {
                break usage;
            }
        };
        assert_eq!(usage.of(Part::Router), Duration::ZERO);
        assert_eq!(usage.of(Part::Driver), usage.total());
        assert!(usage.cores(Part::Driver) > 0.0);
    }
}
