//! `warmq-bench`: simulates a fleet under a routing policy, and runs the same jobs through a real
//! one.

use std::process::ExitCode;

use clap::Parser;
use warmq_bench::args::{Cli, Command};
use warmq_bench::{
    curves, faulty_runner, growth, http, peers, replay, routes, scaling, shares, simulator,
    split_fleet, table, trace,
};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Sim(options) => simulator::print(&options),
        Command::Trace(options) => trace::print(&options),
        Command::Replay(options) => replay::print(&options),
        Command::Routes(options) => routes::print(&options),
        Command::Faults(options) => faulty_runner::print(&options),
        Command::Peers(options) => peers::print(&options),
        Command::Bare(options) => peers::bare::run(&options),
        Command::Http(options) => http::print(&options),
        Command::Growth(options) => growth::print(&options),
        Command::Table(options) => table::print(&options),
        Command::Curves(options) => curves::draw(&options),
        Command::Shares(options) => shares::print(&options),
        Command::Scaling(options) => scaling::print(&options),
        Command::Split(options) => split_fleet::print(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("warmq-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
