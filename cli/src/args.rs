//! Flags and subcommands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use warmq_config::SecretText;
use warmq_types::access::Scope;
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, JobId, KeyId, KeyName};
use warmq_types::job::Priority;

use crate::dry_run::AppAssumption;
use crate::exit::Usage;

const EXIT_STATUSES: &str = "Exit status: 0 all well, 1 the job failed, 2 the request is wrong, \
    64 the configuration file has mistakes, 69 no router answers, 75 the job has not ended yet or the queue is full";

/// Submits jobs to a warmq router and tells what becomes of them.
#[derive(Debug, Parser)]
#[command(name = "warmq", version, after_help = EXIT_STATUSES)]
pub struct Cli {
    /// Which router, and how to answer.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// The router
    #[arg(
        long,
        global = true,
        env = "WARMQ_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub url: String,
    /// The key, sent as `Authorization: Key …`
    #[arg(
        long,
        global = true,
        env = "WARMQ_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    pub key: Option<SecretText>,
    /// Answer in JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Submit a job, and print its id or wait for its result
    Submit(Submit),
    /// Where a job stands
    Status {
        /// The job
        id: JobId,
    },
    /// A job's result
    Result {
        /// The job
        id: JobId,
        /// Save its pictures in this folder
        #[arg(long, value_name = "DIR")]
        save: Option<PathBuf>,
    },
    /// Cancel a job: one that waits vanishes, one that runs stops at its next step
    Cancel {
        /// The job
        id: JobId,
    },
    /// The runners: what each is doing and which models it holds
    Runners {
        /// Only those of this app
        #[arg(long, value_name = "OWNER/NAME")]
        app: Option<AppId>,
    },
    /// The apps: how many jobs wait and how many runners serve them
    Apps,
    /// The routes of a configuration file: check them, or try where they lead
    #[command(subcommand)]
    Routes(Routes),
    /// Dead letters: what could not be run, and why
    #[command(subcommand)]
    Dead(Dead),
    /// Keys: who may submit jobs and look at them
    #[command(subcommand)]
    Keys(Keys),
    /// What happened to a job, and why it went where it went
    Explain {
        /// The job
        id: JobId,
    },
}

/// `warmq keys`.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key and print it: id:secret. It is shown this once
    Create(NewKeyArgs),
    /// The keys, without their secrets
    List,
    /// Revoke a key: from then on nobody is let in with it, within 2 s
    Revoke {
        /// The part of the key before the colon
        id: KeyId,
    },
}

/// `warmq keys create`.
#[derive(Debug, Args)]
pub struct NewKeyArgs {
    /// Whom or what it is for: its id begins so
    pub name: KeyName,
    /// What it allows, comma-separated: submit:owner/name, submit:owner/*, submit:*, read (its own jobs), watch (apps, runners,
    /// metrics), admin (everything)
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
    /// Submissions at once after a pause [default: what comes in a second, at least 1]
    #[arg(long, value_name = "NUMBER", requires = "rate")]
    pub burst: Option<u32>,
    /// Jobs that may wait or run at a time
    #[arg(long, value_name = "NUMBER")]
    pub max_jobs: Option<u64>,
}

/// `warmq routes`. No router is asked.
#[derive(Debug, Subcommand)]
pub enum Routes {
    /// Tell every mistake in the apps and routes of a warmq.toml, by line and column
    Check {
        /// The file
        file: PathBuf,
    },
    /// Where a submission would go, and why; how splits would spread 10,000 keys; which steps a flow would take
    Test(RouteTest),
}

/// `warmq routes test`. The global `--key` is the key that conditions see by its id.
#[derive(Debug, Args)]
pub struct RouteTest {
    /// The file
    pub file: PathBuf,
    /// The input: JSON, @file.json, or - for standard input
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
    /// How an app is supposed to stand, for conditions over `apps`: any of cost, wait_s, run_s, runners, idle, queued. Unless
    /// told otherwise an app has one idle runner, no wait, and the file's cost and prior_run
    #[arg(long = "app", value_name = "OWNER/NAME=FIELD:NUMBER,…")]
    pub apps: Vec<AppAssumption>,
    /// Only this route, not all of the file
    #[arg(long, value_name = "OWNER/NAME")]
    pub route: Option<AppId>,
}

/// `name=text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name in lower case.
    pub name: String,
    /// What it says.
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
            _ => Err(Usage(format!("'{text}' is no header; write name=text"))),
        }
    }
}

/// `warmq dead`.
#[derive(Debug, Subcommand)]
pub enum Dead {
    /// The letters with their reasons, up to 1000 of each queue
    List {
        /// Only those of this app
        #[arg(long, value_name = "OWNER/NAME")]
        app: Option<AppId>,
    },
    /// A letter with its body
    Show(Letter),
    /// Try a letter's job again: a quarantined one under its id, a refused submission as it was submitted
    Redrive(Letter),
    /// Throw a letter away
    Drop(Letter),
}

/// Which dead letter.
#[derive(Debug, Args)]
pub struct Letter {
    /// The job, or the letter
    pub id: JobId,
    /// Look only in this app's letters
    #[arg(long, value_name = "OWNER/NAME")]
    pub app: Option<AppId>,
}

/// `warmq submit`.
#[derive(Debug, Args)]
pub struct Submit {
    /// The app, and perhaps a path in it
    #[arg(value_name = "OWNER/NAME[/PATH]")]
    pub app: AppPath,
    /// What the job needs: a model's name
    #[arg(long)]
    pub hint: Option<Hint>,
    /// The app's input: JSON, @file.json, or - for standard input
    #[arg(
        long,
        value_name = "JSON",
        default_value = "{}",
        hide_default_value = true
    )]
    pub input: String,
    /// `low` runs where no normal job waits
    #[arg(long, value_enum, default_value_t = Lane::Normal)]
    pub priority: Lane,
    /// Wait for the end, show the progress and print the result
    #[arg(long)]
    pub wait: bool,
    /// Save the pictures in this folder (and wait for them)
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
}

/// `owner/name`, and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppPath {
    /// The app.
    pub app: AppId,
    /// The rest, without slashes at its ends; empty for the app's root.
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
            Err(Usage(format!("'{path}' is no path in an app")))
        }
    }
}

/// The lanes, as flags spell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lane {
    /// The default.
    Normal,
    /// Runs where no normal job waits.
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
    fn what_follows_the_app_is_its_path() {
        let parsed: AppPath = "warmq/diffusion/v1/turbo".parse().unwrap();
        assert_eq!(parsed.app.as_str(), "warmq/diffusion");
        assert_eq!(parsed.path, "v1/turbo");
        for bad in ["warmq", "Warmq/x", "a/b/../c", "a/b/c?x=1"] {
            assert!(bad.parse::<AppPath>().is_err(), "{bad}");
        }
    }
}
