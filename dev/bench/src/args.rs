//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Simulates a fleet under a routing policy, and runs the same jobs through a real one.
#[derive(Debug, Parser)]
#[command(name = "warmq-bench", version, about)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one simulation and print its measures
    Sim(Options),
    /// Print the jobs of `sim` with the same options, as JSON lines for `--trace`
    Trace(Options),
    /// Run traces through RabbitMQ, Redis, a router and workers, and compare with the simulator
    Replay(ReplayOptions),
    /// Measure the cost of routes against submissions to the app: per submission, between steps, in
    /// throughput
    Routes(RoutesOptions),
    /// Measure the throughput of three healthy runners and a faulty one, against the three alone
    Faults(FaultsOptions),
    /// Measure no-op jobs through warmq, other job queues and the bare transport
    Peers(PeersOptions),
    /// Run a process of the bare transport of `peers`
    #[command(hide = true)]
    Bare(BareOptions),
    /// Measure what the queue adds to a job of a model server, and a router app to the job that it
    /// submits
    Http(HttpOptions),
    /// Measure idle processes, the processor time per job with 8 and with 500 runners, and a long
    /// queue
    Growth(GrowthOptions),
    /// Simulate every row of the targets, and print measures and targets
    Table(TableOptions),
    /// Draw mean latency over load and swaps over models, for all policies, as SVG
    Curves(CurvesOptions),
    /// Simulate two owners of jobs, one of whom floods a fleet, and print the delays of the other
    Shares(SharesOptions),
    /// Measure the processor time per decision of policy warm, from 32 to 2000 runners
    Scaling(ScalingOptions),
    /// Simulate a fleet that is split into several apps by model, against one app that knows all
    Split(SplitOptions),
}

/// A policy of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PolicyName {
    /// warmq's: bounded waits for warm runners, copies where they pay
    Warm,
    /// fal's documented rule: a match, otherwise a blank runner, otherwise any
    Fal,
    /// One queue, served by the first idle runner
    Shared,
    /// Consistent hashing with bounded loads
    Hash,
    /// LARD/R: locality-aware request distribution with replication
    Lard,
    /// Ray Serve's rule for multiplexed models
    Multiplex,
}

impl PolicyName {
    /// All policies, the best last.
    pub const ALL: [Self; 6] = [
        Self::Shared,
        Self::Fal,
        Self::Multiplex,
        Self::Hash,
        Self::Lard,
        Self::Warm,
    ];

    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Fal => "fal",
            Self::Shared => "shared",
            Self::Hash => "hash",
            Self::Lard => "lard",
            Self::Multiplex => "multiplex",
        }
    }
}

/// Options of `sim`. Times are in seconds of virtual time.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The policy
    #[arg(long, value_enum, default_value = "warm")]
    pub policy: PolicyName,
    /// Runners (N)
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runners: u32,
    /// Models that a runner holds (K)
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub slots: u32,
    /// Models that jobs ask for (M)
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub models: u32,
    /// Load: arrivals per second, in units of N / S, the capacity of the fleet if every job is warm
    #[arg(long, default_value_t = 0.7, value_parser = positive)]
    pub rho: f64,
    /// Time to load a model, in units of S
    #[arg(long, default_value_t = 5.0, value_parser = not_negative)]
    pub load_ratio: f64,
    /// Evicted models that stay in a runner's RAM (R)
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub ram_slots: u32,
    /// Time to load a model from RAM, in units of S
    #[arg(long, default_value_t = 0.5, value_parser = not_negative)]
    pub ram_load_ratio: f64,
    /// Hide the models in RAM from policy warm: runners with them are cold ones
    #[arg(long)]
    pub ignore_tiers: bool,
    /// Exponent of the Zipf law of popularity; 0 makes all models equal
    #[arg(long, default_value_t = 0.9, value_parser = not_negative)]
    pub zipf: f64,
    /// Jobs to simulate
    #[arg(long, default_value_t = 60_000)]
    pub jobs: usize,
    /// Seed: the same seed gives the same result
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Mean time of a warm run (S); lognormal, with a standard deviation of half of it
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    pub service_s: f64,
    /// Fraction of the jobs, from the first one, that is not measured
    #[arg(long, default_value_t = 0.25, value_parser = fraction)]
    pub drop: f64,
    /// Bursts: arrivals alternate between 1.7 and 0.3 times their rate, 60 s each on average
    #[arg(long)]
    pub mmpp: bool,
    /// Jobs of one model that arrive together
    #[arg(long, default_value_t = 1, num_args = 0..=1, default_missing_value = "4", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
    /// Interval at which popularity is shuffled, s
    #[arg(long, value_parser = positive)]
    pub drift_s: Option<f64>,
    /// Mean time between failures of a runner, which loses its job and its models
    #[arg(long, value_parser = positive)]
    pub mtbf_s: Option<f64>,
    /// Time to repair a failed runner
    #[arg(long, default_value_t = 60.0, value_parser = not_negative)]
    pub repair_s: f64,
    /// Delay of the reports that policies receive from runners
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub view_delay_ms: f64,
    /// Saturation: 4 N jobs are in the system at all times
    #[arg(long)]
    pub closed: bool,
    /// Replay arrivals from a file of JSON lines: {"at_s": 0.41, "hint": "m3", "run_s": 0.21}
    #[arg(long)]
    pub trace: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Options of `table`.
#[derive(Debug, Clone, Args)]
pub struct TableOptions {
    /// Policies, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_value = "warm")]
    pub policy: Vec<PolicyName>,
    /// Seeds per row; the median is shown
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
    /// Only rows whose name contains this
    #[arg(long, default_value = "")]
    pub only: String,
}

/// Options of `replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayOptions {
    /// Only cases whose name contains this, such as "fal" or "M=12 load .70"
    #[arg(long, visible_alias = "case", value_name = "TEXT", default_value = "")]
    pub only: String,
    /// Jobs per case
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub jobs: u32,
    /// Seed of the traces
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
    /// Keep the processes' logs and the jobs' records here, in a folder per case
    #[arg(long, value_name = "FOLDER")]
    pub logs: Option<PathBuf>,
}

/// Options of `routes`.
#[derive(Debug, Clone, Args)]
pub struct RoutesOptions {
    /// Rounds, each of which measures everything in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub rounds: u64,
    /// Duration of each part of a round, s
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Concurrent flows
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub flows: u32,
    /// Mean run time of their steps, ms
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub step_ms: u64,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Keep the processes' logs here
    #[arg(long, value_name = "FOLDER")]
    pub logs: Option<PathBuf>,
}

/// Options of `faults`.
#[derive(Debug, Clone, Args)]
pub struct FaultsOptions {
    /// Rounds, each of which measures both in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub rounds: u64,
    /// Jobs per round and fleet
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(10..=100_000))]
    pub jobs: u64,
    /// Run time of a job, ms
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub run_ms: u64,
}

/// Options of `peers`.
#[derive(Debug, Clone, Args)]
pub struct PeersOptions {
    /// Only systems whose names begin with one of these, comma-separated: warmq-http, warmq-amqp,
    /// celery, dramatiq, rq, bullmq, bare
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Slots of each of the two worker processes, comma-separated
    #[arg(long, value_delimiter = ',', default_value = "1,16", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub slots: Vec<u32>,
    /// Rounds, each of which measures all systems in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub rounds: u64,
    /// Jobs of a burst, at most: a slow system has fewer
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub jobs: u32,
    /// Submissions per second at which latency is measured, comma-separated
    #[arg(long, value_delimiter = ',', default_value = "10,100,300", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rates: Vec<u32>,
    /// Duration of the measurement at each rate, s
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Seed of the arrivals
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Virtual environment of the peers in Python
    #[arg(long, value_name = "FOLDER", default_value = ".venv-bench-peers")]
    pub python: PathBuf,
    /// Scripts of the peers, beside Node's modules
    #[arg(long, value_name = "FOLDER", default_value = "dev/bench/peers")]
    pub scripts: PathBuf,
    /// Replace the tables of this document, and draw the charts beside it
    #[arg(long, value_name = "FILE")]
    pub document: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Keep the processes' logs here, in a folder per measurement
    #[arg(long, value_name = "FOLDER")]
    pub logs: Option<PathBuf>,
}

/// Options of `bare`.
#[derive(Debug, Clone, Args)]
pub struct BareOptions {
    /// The process's place between the queues
    #[arg(value_enum)]
    pub role: BareRole,
    /// Jobs that a worker has at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub slots: u16,
    /// RabbitMQ
    #[arg(long, env = "BENCH_AMQP_URL", hide_env_values = true)]
    pub amqp_url: String,
    /// Redis
    #[arg(long, env = "BENCH_REDIS_URL", hide_env_values = true)]
    pub redis_url: String,
}

/// A process of the bare transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BareRole {
    /// Between the driver and the workers
    Relay,
    /// Writes to Redis and replies
    Worker,
}

/// Options of `http`.
#[derive(Debug, Clone, Args)]
pub struct HttpOptions {
    /// Rounds, each of which measures both in turn; the median is shown
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub rounds: u64,
    /// Jobs per round
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(10..=100_000))]
    pub jobs: u64,
    /// A Python with fal's package, to measure a router app as well
    #[arg(long)]
    pub python: Option<PathBuf>,
}

/// Options of `growth`.
#[derive(Debug, Clone, Args)]
pub struct GrowthOptions {
    /// Rounds, each of which measures the fleets in turn; the median is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub rounds: u64,
    /// Duration of each part of a round, s
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Submissions per second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub rate: u32,
    /// Jobs of the burst to the 500 runners
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub jobs: u32,
    /// Keep the processes' logs here, in a folder per measurement
    #[arg(long, value_name = "FOLDER")]
    pub logs: Option<PathBuf>,
}

/// Options of `curves`.
#[derive(Debug, Clone, Args)]
pub struct CurvesOptions {
    /// Folder for the pictures
    #[arg(long, default_value = "docs/benchmarks")]
    pub out: PathBuf,
    /// Seeds per point; the median is drawn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
}

/// Options of `shares`.
#[derive(Debug, Clone, Args)]
pub struct SharesOptions {
    /// Seeds per case; the median is shown
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
}

/// Options of `split`.
#[derive(Debug, Clone, Args)]
pub struct SplitOptions {
    /// Runners of the fleets (N), comma-separated; jobs ask for 1.5 N models
    #[arg(long, value_delimiter = ',', default_value = "500,2000,10000,100000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runners: Vec<u32>,
    /// Numbers of apps, comma-separated
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub apps: Vec<u32>,
    /// Jobs per runner
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub jobs: u32,
    /// Load: arrivals per second, in units of the fleet's capacity if every job is warm
    #[arg(long, default_value_t = 0.7, value_parser = positive)]
    pub rho: f64,
    /// Interval at which popularity is shuffled, s
    #[arg(long, value_parser = positive)]
    pub drift_s: Option<f64>,
    /// Give each app as many runners, whatever its load
    #[arg(long)]
    pub equal: bool,
    /// Seed: the same seed gives the same result
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

/// Options of `scaling`.
#[derive(Debug, Clone, Args)]
pub struct ScalingOptions {
    /// Repetitions; the median is shown
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub runs: u64,
    /// Load
    #[arg(long, default_value_t = 0.7, value_parser = positive)]
    pub rho: f64,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

fn number(text: &str, accept: impl Fn(f64) -> bool, wanted: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && accept(value) => Ok(value),
        _ => Err(format!("must be {wanted}")),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0, "a number greater than 0")
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |value| value >= 0.0, "a number of at least 0")
}

fn fraction(text: &str) -> Result<f64, String> {
    number(
        text,
        |value| (0.0..1.0).contains(&value),
        "a number from 0 to below 1",
    )
}
