//! Processor time of processes with their descendants, from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

/// Part of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// warmq's router; of the bare transport, the process between two queues.
    Router,
    /// The worker processes.
    Workers,
    /// RabbitMQ.
    RabbitMq,
    /// Redis.
    Redis,
    /// The process that submits the jobs and reads the results.
    Driver,
}

impl Part {
    /// All parts, the driver last.
    pub const ALL: [Self; 5] = [
        Self::Router,
        Self::Workers,
        Self::RabbitMq,
        Self::Redis,
        Self::Driver,
    ];
}

/// A process whose time counts.
#[derive(Debug, Clone, Copy)]
pub enum Process {
    /// With its descendants.
    Tree(u32),
    /// Without: this process, whose children are the measured system.
    Alone(u32),
}

/// A line of `/proc/<pid>/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// User and system time, of itself and of its children that ended and were waited for.
    ticks: u64,
}

impl Stat {
    /// Parses a line of `/proc/<pid>/stat`; see proc(5).
    fn parse(line: &str) -> Option<Self> {
        // The name before may contain spaces and parentheses.
        let (_, fields) = line.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let times = fields.get(11..15)?;
        let ticks = times.iter().map(|field| field.parse::<u64>().ok());
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            ticks: ticks.sum::<Option<u64>>()?,
        })
    }
}

/// The processor times of all processes at one time.
#[derive(Debug)]
pub struct Snapshot(HashMap<u32, Stat>);

impl Snapshot {
    /// Reads `/proc`. Processes that end meanwhile are left out.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn read() -> anyhow::Result<Self> {
        let mut stats = HashMap::new();
        for entry in fs::read_dir("/proc").context("reading /proc")? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(pid) = name.and_then(|name| name.parse().ok()) else {
                continue;
            };
            let line = fs::read_to_string(path.join("stat")).unwrap_or_default();
            stats.extend(Stat::parse(&line).map(|stat| (pid, stat)));
        }
        Ok(Self(stats))
    }

    /// Returns the process ids.
    pub fn pids(&self, process: Process) -> Vec<u32> {
        match process {
            Process::Tree(root) => {
                let children = self.0.iter().filter(|(_, stat)| stat.parent == root);
                let below = children.flat_map(|(pid, _)| self.pids(Process::Tree(*pid)));
                below.chain([root]).collect()
            }
            Process::Alone(pid) => vec![pid],
        }
    }

    fn ticks(&self, process: Process) -> u64 {
        let stats = self
            .pids(process)
            .into_iter()
            .filter_map(|pid| self.0.get(&pid));
        stats.map(|stat| stat.ticks).sum()
    }

    /// Returns the processor time that the processes took since `earlier`.
    ///
    /// # Errors
    /// The system does not report the length of a tick.
    pub fn since(&self, earlier: &Self, processes: &[Process]) -> anyhow::Result<Duration> {
        let per_s = sysconf(SysconfVar::CLK_TCK)?.context("the length of a tick is unknown")?;
        let ticks = |snapshot: &Self| -> u64 {
            let each = processes.iter().map(|process| snapshot.ticks(*process));
            each.sum()
        };
        let ticks = ticks(self).saturating_sub(ticks(earlier));
        Ok(Duration::from_secs_f64(ticks as f64 / per_s as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_parsed_although_the_name_contains_spaces_and_parentheses() {
        let line = "4321 (tmux: (a) b) S 17 4321 4321 0 -1 4194560 1030 88 0 0 \
                    250 40 7 3 20 0 1 0 5678 9003008 900 18446744073709551615";
        let stat = Stat::parse(line);
        assert_eq!(
            stat,
            Some(Stat {
                parent: 17,
                ticks: 300
            })
        );
        assert_eq!(Stat::parse("4321 (sh) S 17"), None);
    }

    #[test]
    fn descendants_count_and_other_processes_do_not() {
        let processes = [
            (1, 0, 1),
            (10, 1, 100),
            (11, 10, 20),
            (12, 11, 3),
            (20, 1, 5000),
        ];
        let stats = processes.map(|(pid, parent, ticks)| (pid, Stat { parent, ticks }));
        let snapshot = Snapshot(stats.into());
        assert_eq!(snapshot.ticks(Process::Tree(10)), 123);
        assert_eq!(snapshot.ticks(Process::Alone(10)), 100);
    }

    #[test]
    fn this_process_takes_processor_time() {
        let this = [Process::Alone(std::process::id())];
        let earlier = Snapshot::read().unwrap();
        // Ends with what it waits for: the time that it takes.
        while Snapshot::read()
            .unwrap()
            .since(&earlier, &this)
            .unwrap()
            .is_zero()
        {}
    }
}
