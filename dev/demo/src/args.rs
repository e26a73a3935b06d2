//! Flags of the demo.

use std::path::PathBuf;

use warmq_config::ByteSize;

/// Runs 24 image-generation jobs through a router and three runners on this machine, shows where each went and why, and
/// what the same jobs cost on a plain shared queue.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "warmq-demo", version)]
pub struct Args {
    /// Folder of model folders: shapes, digits and landscapes must be in it
    #[arg(long, value_name = "DIR", default_value = "models")]
    pub models: PathBuf,
    /// Where the pictures go
    #[arg(long, value_name = "DIR", default_value = "out/demo")]
    pub out: PathBuf,
    /// What the models of one runner may hold [default: room for two of the three]
    #[arg(long, value_name = "SIZE")]
    pub memory_budget: Option<ByteSize>,
    /// Where the models live: cpu, or cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// Tell each job's routing decision, not only one of each kind
    #[arg(long)]
    pub explain: bool,
}
