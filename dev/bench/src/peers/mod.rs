//! Measures no-op jobs through warmq, through other job queues, and through the bare transport, on
//! private servers of this machine.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`system`] | the compared systems |
//! | [`servers`] | a private RabbitMQ and a private Redis |
//! | [`load`] | bursts and seeded arrivals, each job at its time |
//! | [`outcome`] | when the jobs of a load ran |
//! | [`processor_time`] | processor time by process, from `/proc` |
//! | [`warmq`] | warmq's processes |
//! | [`http_driver`], [`amqp_driver`] | submit by HTTP, and by AMQP |
//! | [`bare`] | the bare transport |
//! | [`external`] | peers in other languages |
//! | [`running`] | a running system and its driver |
//! | [`measurement`] | measures one system in one round |
//! | [`hops`] | where the time of one job goes |
//! | [`summary`] | medians and goals |
//! | [`report`], [`charts`], [`document`] | tables, charts, and the document with both |

pub mod amqp_driver;
pub mod bare;
pub mod charts;
pub mod document;
pub mod external;
pub mod hops;
pub mod http_driver;
pub mod load;
pub mod measurement;
pub mod outcome;
pub mod processor_time;
pub mod report;
pub mod running;
pub mod servers;
pub mod summary;
pub mod system;
pub mod warmq;

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::PeersOptions;
use crate::interruptible;
use external::commands::Programs;
use measurement::Bench;
use servers::Servers;
use summary::Summary;
use system::System;

/// Measures and prints. A missed goal is printed, and is not an error.
pub fn print(options: &PeersOptions) -> anyhow::Result<()> {
    let summary = interruptible::run(measure(options))?;
    let tables = report::markdown(&summary);
    match options.json {
        true => println!("{}", serde_json::to_string(&summary)?),
        false => print!("{tables}"),
    }
    if let Some(document) = &options.document {
        document::update(document, &format!("{}\n{tables}", charts::MARKDOWN))?;
        charts::draw(&summary, document.parent().unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

async fn measure(options: &PeersOptions) -> anyhow::Result<Summary> {
    let systems = System::select(&options.only);
    ensure!(
        !systems.is_empty(),
        "no system's name begins with {:?}",
        options.only
    );
    let programs = Programs::new(&options.python, &options.scripts)?;
    let temporary = tempfile::tempdir()?;
    let folder = options.logs.as_deref().unwrap_or(temporary.path());
    let servers = Servers::start().await?;
    let bench = Bench {
        options,
        servers: &servers,
        programs: &programs,
        folder: &std::path::absolute(folder)?,
    };
    let bar = bar(options.rounds * (systems.len() * options.slots.len()) as u64);
    let mut measured = Vec::new();
    for round in 0..options.rounds {
        // Another order in each round, so that no system always follows the same one.
        let mut order = systems.clone();
        order.rotate_left(round as usize % systems.len());
        for slots in &options.slots {
            for system in &order {
                bar.set_message(format!("{}, slots {slots}", system.label()));
                measured.push(bench.measure(*system, *slots, round).await?);
                bar.inc(1);
            }
        }
    }
    let hops = match systems.contains(&System::WarmqHttp) {
        true => {
            let slots = options.slots.first().copied().unwrap_or(1);
            let time = Duration::from_secs(2 * options.seconds);
            let folder = bench.folder.join("hops");
            Some(hops::measure(&servers, &folder, slots, time, options.seed).await?)
        }
        false => None,
    };
    bar.finish_and_clear();
    Ok(Summary::of(options, &measured, hops))
}

/// Creates a bar on standard error; hidden unless that is a terminal.
fn bar(parts: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("peers [{bar:30}] {pos}/{len}, {eta} left: {msg}");
    ProgressBar::new(parts).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
