//! `warmq-demo`: what `make demo` runs once all is built.

use std::process::ExitCode;

use clap::Parser;
use warmq_common::shutdown;
use warmq_demo::args::Args;
use warmq_demo::show::Stage;

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
    let stage = Stage::set(args).await?;
    // Dropping the run kills the processes.
    let outcome = tokio::select! {
        outcome = stage.run() => outcome,
        () = stop.cancelled() => Err(anyhow::anyhow!("interrupted; all processes are stopped")),
    };
    let cleared = stage.clear().await;
    let sheet = outcome?;
    cleared?;
    println!("\nContact sheet: {}", sheet.display());
    Ok(())
}
