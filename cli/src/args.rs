//! Flags and subcommands.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use warmq_config::SecretText;
use warmq_types::access::{MaxRunning, Scope, Weight};
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, JobId, KeyId, KeyName, RunnerId};
use warmq_types::job::Priority;
use warmq_types::state::JobState;

use crate::dry_run::AppAssumption;
use crate::exit::Usage;

const EXIT_STATUSES: &str = "Exit status: 0 success, 1 the job failed, 2 the request is invalid, \
    64 the configuration file is invalid, 69 the router is unreachable, 75 the job has not ended or the queue is full";

/// Submits jobs to a warmq router and shows their progress and results.
#[derive(Debug, Parser)]
#[command(name = "warmq", version, after_help = EXIT_STATUSES)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// URL of the router
    #[arg(
        long,
        global = true,
        env = "WARMQ_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub url: String,
    /// API key, sent as `Authorization: Key …`
    #[arg(
        long,
        global = true,
        env = "WARMQ_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    pub key: Option<SecretText>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
}

/// The command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Submit a job and print its id, or wait for its result
    Submit(Submit),
    /// Show a job's status
    Status {
        /// Id of the job
        id: JobId,
    },
    /// List jobs, newest first
    Jobs(JobsArgs),
    /// Print a job's log
    Logs {
        /// Id of the job
        id: JobId,
        /// Print new lines until the job ends; with --json, one line of JSON each
        #[arg(long, short)]
        follow: bool,
    },
    /// Print a job's result
    Result {
        /// Id of the job
        id: JobId,
        /// Save its pictures in this folder
        #[arg(long, value_name = "DIR")]
        save: Option<PathBuf>,
    },
    /// Cancel a job: a waiting one ends at once, a running one at its next step
    Cancel {
        /// Id of the job
        id: JobId,
    },
    /// List the runners: what each one does and which models it holds; or change their models, or
    /// drain one
    Runners {
        /// Only those of this app
        #[arg(long, value_name = "OWNER/NAME", global = true)]
        app: Option<AppId>,
        /// What to change
        #[command(subcommand)]
        change: Option<RunnerChange>,
    },
    /// List the apps: jobs that wait, runners, policy
    Apps,
    /// Show what ended jobs used: by day, API key and app
    Usage(UsageArgs),
    /// Show runners, queues and jobs live until q is pressed; with --json, print them once
    Top {
        /// Seconds between updates, 0.2 or more
        #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
        interval: f64,
        /// Only this app
        #[arg(long, value_name = "OWNER/NAME")]
        app: Option<AppId>,
    },
    /// Check the routes of a configuration file, or try them out
    #[command(subcommand)]
    Routes(Routes),
    /// List, show, redrive or drop dead letters
    #[command(subcommand)]
    Dead(Dead),
    /// Create, list, change or revoke API keys
    #[command(subcommand)]
    Keys(Keys),
    /// Explain what happened to a job, and why it was sent where it was
    Explain {
        /// Id of the job
        id: JobId,
    },
    /// Print completions for a shell: `source <(warmq completions bash)`
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: CompletedShell,
    },
    /// Print the manual page: `warmq man | man -l -`
    Man,
}

/// Shells with completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompletedShell {
    /// GNU Bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// The friendly interactive shell.
    Fish,
}

/// `warmq jobs`. All filters apply.
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// Only jobs in these states, comma-separated: queued, dispatched, running, succeeded, failed,
    /// cancelled, expired
    #[arg(long = "state", value_name = "STATES", value_delimiter = ',')]
    pub states: Vec<JobState>,
    /// Only jobs of this app, or flows of this route
    #[arg(long, value_name = "OWNER/NAME")]
    pub app: Option<AppId>,
    /// Only jobs with this hint
    #[arg(long)]
    pub hint: Option<Hint>,
    /// Only jobs submitted with this key: its id, the part before the colon
    #[arg(long, value_name = "KEY_ID")]
    pub owner: Option<KeyId>,
    /// Only jobs before this one, or before this time (Unix ms)
    #[arg(long, value_name = "ID|TIME")]
    pub before: Option<String>,
    /// Maximum number of jobs
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 50, value_parser = at_least_one)]
    pub limit: usize,
}

/// `warmq usage`.
#[derive(Debug, Args)]
pub struct UsageArgs {
    /// First day, UTC, as 2026-11-01; by default the first of the month of --to
    #[arg(long, value_name = "DAY")]
    pub from: Option<String>,
    /// Last day, UTC, included; by default today
    #[arg(long, value_name = "DAY")]
    pub to: Option<String>,
    /// Only jobs of this app, or flows of this route
    #[arg(long, value_name = "OWNER/NAME")]
    pub app: Option<AppId>,
    /// Only jobs submitted with this key: its id, the part before the colon
    #[arg(long, value_name = "KEY_ID")]
    pub owner: Option<KeyId>,
    /// What a line is about, comma-separated
    #[arg(long, value_name = "GROUPS", default_value = "day,key,app")]
    pub by: String,
}

/// Shortest interval between updates of `warmq top`, s.
const MIN_INTERVAL_S: f64 = 0.2;

fn interval(text: &str) -> Result<f64, Usage> {
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds| (MIN_INTERVAL_S..=3600.0).contains(seconds));
    seconds.ok_or_else(|| {
        Usage(format!(
            "'{text}' is not an interval: expected seconds from {MIN_INTERVAL_S} to 3600"
        ))
    })
}

fn at_least_one(text: &str) -> Result<usize, Usage> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| Usage(format!("'{text}' is not a number of at least 1")))
}

/// `warmq keys`.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Create a key and print it once: id:secret
    Create(NewKeyArgs),
    /// List the keys, without their secrets
    List,
    /// Change limits of a key and keep its others; routers follow within 2 s. Of concurrent changes
    /// the last one counts
    Set {
        /// Id of the key: the part before the colon
        id: KeyId,
        /// The limits to change.
        #[command(flatten)]
        changes: LimitChanges,
    },
    /// Revoke a key; routers reject it within 2 s
    Revoke {
        /// Id of the key: the part before the colon
        id: KeyId,
    },
}

/// `warmq keys create`.
#[derive(Debug, Args)]
pub struct NewKeyArgs {
    /// Name of the key's user; the key's id starts with it
    pub name: KeyName,
    /// What the key allows, comma-separated: submit:owner/name, submit:owner/*, submit:*, read (its
    /// own jobs), watch (apps, runners, metrics), admin (everything)
    #[arg(
        long = "scope",
        value_name = "SCOPES",
        value_delimiter = ',',
        default_value = "submit:*,read"
    )]
    pub scopes: Vec<Scope>,
    /// Submissions per second, on average
    #[arg(long, value_name = "NUMBER")]
    pub rate: Option<f64>,
    /// Submissions at once after a pause [default: those of one second, at least 1]
    #[arg(long, value_name = "NUMBER", requires = "rate")]
    pub burst: Option<u32>,
    /// Jobs that may wait or run at the same time
    #[arg(long, value_name = "NUMBER")]
    pub max_jobs: Option<u64>,
    /// Jobs that may run at the same time in each app, at least 1; others wait (policy warm)
    #[arg(long, value_name = "NUMBER")]
    pub max_running: Option<MaxRunning>,
    /// Share of runner time relative to other keys with waiting jobs, 0.01 to 1000 [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub weight: Option<Weight>,
}

/// The limits that `warmq keys set` changes: at least one.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct LimitChanges {
    /// Submissions per second, on average, or none for no limit
    #[arg(long, value_name = "NUMBER")]
    pub rate: Option<Change<f64>>,
    /// Submissions at once after a pause [default: those of one second, at least 1]
    #[arg(long, value_name = "NUMBER", requires = "rate")]
    pub burst: Option<u32>,
    /// Jobs that may wait or run at the same time, or none for no limit
    #[arg(long, value_name = "NUMBER")]
    pub max_jobs: Option<Change<u64>>,
    /// Jobs that may run at the same time in each app, at least 1, or none for no limit
    #[arg(long, value_name = "NUMBER")]
    pub max_running: Option<Change<MaxRunning>>,
    /// Share of runner time relative to other keys with waiting jobs, 0.01 to 1000, or none for 1
    #[arg(long, value_name = "NUMBER")]
    pub weight: Option<Change<Weight>>,
}

/// A limit's new value; as text, `none` removes the limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change<T>(pub Option<T>);

impl<T: FromStr> FromStr for Change<T> {
    type Err = T::Err;
    fn from_str(text: &str) -> Result<Self, T::Err> {
        match text {
            "none" => Ok(Self(None)),
            number => Ok(Self(Some(number.parse()?))),
        }
    }
}

/// `warmq routes`. Needs no router.
#[derive(Debug, Subcommand)]
pub enum Routes {
    /// Report every mistake in the apps and routes of a warmq.toml, with line and column
    Check {
        /// Path of the file
        file: PathBuf,
    },
    /// Show where a submission would go and why, how splits would spread 10,000 keys, and which
    /// steps a flow would take
    Test(RouteTest),
}

/// `warmq routes test`. Conditions see the id of the global `--key`.
#[derive(Debug, Args)]
pub struct RouteTest {
    /// Path of the file
    pub file: PathBuf,
    /// Input: JSON, @file.json, or - for standard input
    #[arg(
        long,
        value_name = "JSON",
        default_value = "{}",
        hide_default_value = true
    )]
    pub input: String,
    /// A header of the request
    #[arg(long = "header", value_name = "NAME=TEXT")]
    pub headers: Vec<Header>,
    /// Assumed load of an app, for conditions over `apps`: any of cost, wait_s, run_s, runners,
    /// idle, queued. By default an app has one idle runner, no wait, and the file's cost and
    /// prior_run
    #[arg(long = "app", value_name = "OWNER/NAME=FIELD:NUMBER,…")]
    pub apps: Vec<AppAssumption>,
    /// Only this route, instead of all routes of the file
    #[arg(long, value_name = "OWNER/NAME")]
    pub route: Option<AppId>,
}

/// Changes of a runner, executed once it is idle.
#[derive(Debug, Clone, Subcommand)]
pub enum RunnerChange {
    /// Load models
    Load(ModelsOfRunner),
    /// Drop models from device and RAM
    Unload(ModelsOfRunner),
    /// Load models and evict them no more
    Pin(ModelsOfRunner),
    /// Let models be evicted again
    Unpin(ModelsOfRunner),
    /// End a runner after the job that it has; its process exits once all its runners have left
    Drain {
        /// Name of the runner
        runner: RunnerId,
    },
}

/// Models of one runner.
#[derive(Debug, Clone, Args)]
pub struct ModelsOfRunner {
    /// Name of the runner
    pub runner: RunnerId,
    /// Names of the models
    #[arg(required = true, value_name = "MODEL")]
    pub models: Vec<Hint>,
}

/// `name=text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Name, in lower case.
    pub name: String,
    /// Value.
    pub text: String,
}

impl std::str::FromStr for Header {
    type Err = Usage;
    fn from_str(text: &str) -> Result<Self, Usage> {
        match text.split_once('=') {
            Some((name, text)) if !name.is_empty() => Ok(Self {
                name: name.to_lowercase(),
                text: text.to_owned(),
            }),
            _ => Err(Usage(format!(
                "'{text}' is not a header: expected name=text"
            ))),
        }
    }
}

/// `warmq dead`.
#[derive(Debug, Subcommand)]
pub enum Dead {
    /// List dead letters with their reasons, up to 1000 of each queue
    List {
        /// Only those of this app
        #[arg(long, value_name = "OWNER/NAME")]
        app: Option<AppId>,
    },
    /// Show a dead letter with its body
    Show(Letter),
    /// Submit a dead letter again: a quarantined job under its id, a rejected submission as it was
    /// submitted
    Redrive(Letter),
    /// Delete a dead letter
    Drop(Letter),
}

/// A dead letter.
#[derive(Debug, Args)]
pub struct Letter {
    /// Id of the job, or of the letter
    pub id: JobId,
    /// Search only this app's dead letters
    #[arg(long, value_name = "OWNER/NAME")]
    pub app: Option<AppId>,
}

/// `warmq submit`.
#[derive(Debug, Args)]
pub struct Submit {
    /// App, optionally with a path in it
    #[arg(value_name = "OWNER/NAME[/PATH]")]
    pub app: AppPath,
    /// Hint: name of the model that the job needs
    #[arg(long)]
    pub hint: Option<Hint>,
    /// Input: JSON, @file.json, or - for standard input
    #[arg(
        long,
        value_name = "JSON",
        default_value = "{}",
        hide_default_value = true
    )]
    pub input: String,
    /// Lane: `low` runs while no normal job waits
    #[arg(long, value_enum, default_value_t = Lane::Normal)]
    pub priority: Lane,
    /// Wait for the end, show progress and print the result
    #[arg(long)]
    pub wait: bool,
    /// Save the pictures in this folder (implies --wait)
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
}

/// `owner/name`, and the path after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppPath {
    /// The app.
    pub app: AppId,
    /// The path, without slashes at its ends; empty for the app's root.
    pub path: String,
}

impl std::str::FromStr for AppPath {
    type Err = Usage;
    fn from_str(text: &str) -> Result<Self, Usage> {
        let mut parts = text.trim_matches('/').splitn(3, '/');
        let owner = parts.next().unwrap_or_default();
        let name = parts.next().unwrap_or_default();
        let app = AppId::parse(&format!("{owner}/{name}")).map_err(|e| Usage(e.to_string()))?;
        let path = parts.next().unwrap_or_default().to_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_/.".contains(c);
        if path.chars().all(plain) && !path.split('/').any(|part| part == "..") {
            Ok(Self { app, path })
        } else {
            Err(Usage(format!("'{path}' is not a path of an app")))
        }
    }
}

/// Values of `--priority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lane {
    /// The default.
    Normal,
    /// Runs while no normal job waits.
    Low,
}

impl From<Lane> for Priority {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Normal => Self::Normal,
            Lane::Low => Self::Low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_rest_after_the_app_is_its_path() {
        let parsed: AppPath = "warmq/diffusion/v1/turbo".parse().unwrap();
        assert_eq!(parsed.app.as_str(), "warmq/diffusion");
        assert_eq!(parsed.path, "v1/turbo");
        for bad in ["warmq", "Warmq/x", "a/b/../c", "a/b/c?x=1"] {
            assert!(bad.parse::<AppPath>().is_err(), "{bad}");
        }
    }
}
