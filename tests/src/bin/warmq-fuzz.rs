//! `warmq-fuzz`: runs schemathesis against a router of its own, and fails if a response differs
//! from `/openapi.json`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use warmq_tests::fuzz::Fuzz;

/// Generates valid and invalid requests from `/openapi.json` and checks every response
#[derive(Debug, Parser)]
#[command(name = "warmq-fuzz", version, about)]
struct Args {
    /// Random requests per operation, in addition to boundary values of each parameter
    #[arg(long, default_value_t = 60)]
    examples: u32,
    /// Seed; the same seed generates the same requests
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fail if fewer requests were generated
    #[arg(long, default_value_t = 2_000)]
    at_least: u64,
    /// Fail after this time, min
    #[arg(long, default_value_t = 60)]
    minutes: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let fuzz = Fuzz {
        examples: args.examples,
        seed: args.seed,
        bound: Duration::from_secs(args.minutes * 60),
    };
    let report = match fuzz.run().await {
        Ok(report) => report,
        Err(error) => {
            eprintln!("warmq-fuzz: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", report.text);
    let verdict = match report.holds {
        true => "each answered as documented",
        false => "NOT all answered as documented",
    };
    println!(
        "warmq-fuzz: {} requests, {verdict} (seed {})",
        report.cases, args.seed
    );
    if report.cases < args.at_least {
        println!(
            "warmq-fuzz: that is fewer than the {} that were asked for",
            args.at_least
        );
        return ExitCode::FAILURE;
    }
    match report.holds {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
