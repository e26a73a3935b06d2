//! Flags of the demo.

use std::path::PathBuf;

use warmq_config::ByteSize;

/// Runs 24 image-generation jobs through a router and three runners on this machine, shows where
/// each job ran and why, and compares the cost with a plain shared queue.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "warmq-demo", version)]
pub struct Args {
    /// Folder with one folder per model; needs shapes, digits and landscapes
    #[arg(long, value_name = "DIR", default_value = "models")]
    pub models: PathBuf,
    /// Folder for the pictures
    #[arg(long, value_name = "DIR", default_value = "out/demo")]
    pub out: PathBuf,
    /// Memory budget for the models of one runner [default: room for two of the three]
    #[arg(long, value_name = "SIZE")]
    pub memory_budget: Option<ByteSize>,
    /// Device for the models: cpu, or cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// Explain each job's routing decision, not only one of each kind
    #[arg(long)]
    pub explain: bool,
}
