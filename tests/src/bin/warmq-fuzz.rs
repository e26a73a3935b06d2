//! `warmq-fuzz`: has schemathesis try the API of a router of its own, and fails if any answer is not as `/openapi.json` says.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use warmq_tests::fuzz::Fuzz;

/// Makes up requests from `/openapi.json`, good and bad, and checks every answer
#[derive(Debug, Parser)]
#[command(name = "warmq-fuzz", version, about)]
struct Args {
    /// Requests at random for each operation; those at the edges of each parameter come on top
    #[arg(long, default_value_t = 60)]
    examples: u32,
    /// The same seed makes up the same requests
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fails if fewer requests were made up
    #[arg(long, default_value_t = 2_000)]
    at_least: u64,
    /// Fails if it takes longer, min
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
