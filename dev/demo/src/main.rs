//! `warmq-demo`: the program of `make demo`.

use std::process::ExitCode;

use clap::Parser;
use warmq_demo::args::Args;
use warmq_demo::demo::Demo;
use warmq_process::shutdown;

#[tokio::main]
async fn main() -> ExitCode {
    match demo(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("warmq-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: Args) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let sheet = Demo::prepare(args)?.run(&stop).await?;
    println!("\nContact sheet: {}", sheet.display());
    Ok(())
}
