//! Measures how the cost of a job and of idle processes grows with the number of runners and of
//! waiting jobs, on private servers of this machine.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`measurement`] | measures one fleet in one round |
//! | [`backlog`] | measures a long queue |
//! | [`usage`] | processor time and memory of the parts over a time |
//! | [`report`] | medians, as tables |

pub mod backlog;
pub mod measurement;
pub mod report;
pub mod usage;

use anyhow::Context;
use indicatif::ProgressBar;

use crate::args::GrowthOptions;
use crate::interruptible;
use crate::peers::servers::Servers;
use crate::peers::warmq::FleetSize;
use backlog::Backlog;
use measurement::{Fleet, Measured};

const SMALL: FleetSize = FleetSize {
    workers: 2,
    slots: 4,
};

const LARGE: FleetSize = FleetSize {
    workers: 10,
    slots: 50,
};

const HUGE: FleetSize = FleetSize {
    workers: 40,
    slots: 50,
};

/// The fleets: the same jobs on few and on many runners, and longer jobs, which renew leases and
/// report progress. At 50 submissions per second they keep at most half of a fleet busy.
const FLEETS: [Fleet; 4] = [
    Fleet {
        size: SMALL,
        run_ms: 80,
        takes_burst: false,
    },
    Fleet {
        size: LARGE,
        run_ms: 80,
        takes_burst: true,
    },
    Fleet {
        size: LARGE,
        run_ms: 2000,
        takes_burst: false,
    },
    Fleet {
        size: HUGE,
        run_ms: 80,
        takes_burst: true,
    },
];

/// Measures and prints.
pub fn print(options: &GrowthOptions) -> anyhow::Result<()> {
    let (fleets, backlogs) = interruptible::run(measure(options))?;
    print!("{}{}", report::fleets(&fleets), report::backlogs(&backlogs));
    Ok(())
}

/// Measures of each fleet, one per round, and of the queue's lengths.
type Measures = (Vec<(Fleet, Vec<Measured>)>, Vec<Backlog>);

async fn measure(options: &GrowthOptions) -> anyhow::Result<Measures> {
    let temporary = tempfile::tempdir()?;
    let folder = std::path::absolute(options.logs.as_deref().unwrap_or(temporary.path()))?;
    let servers = Servers::start().await?;
    let mut measured: Vec<(Fleet, Vec<Measured>)> =
        FLEETS.iter().map(|fleet| (*fleet, Vec::new())).collect();
    let bar = ProgressBar::new(options.rounds * FLEETS.len() as u64);
    for round in 0..options.rounds {
        for (fleet, rounds) in &mut measured {
            let runners = fleet.size.runners();
            let folder = folder.join(format!("{runners}-{}-{round}", fleet.run_ms));
            std::fs::create_dir_all(&folder)?;
            let measuring = measurement::measure(*fleet, options, round, &servers, &folder);
            let measures = measuring.await;
            rounds.push(measures.with_context(|| format!("measuring {runners} runners"))?);
            servers.redis.flush().await?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let backlogs = backlog::measure(&servers, &folder.join("backlog")).await?;
    Ok((measured, backlogs))
}
