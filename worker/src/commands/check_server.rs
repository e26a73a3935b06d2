//! `warmq-worker http check`: whether a model server follows docs/runner-protocol.md.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use warmq_types::table::Table;
use warmq_types::text::escape;

use crate::engine::http::check::{Finding, Grade, check};
use crate::engine::http::options::{Options, Path, Target, Upstream};

/// Exit status if the server does not follow the protocol.
const EXIT_FAILED: u8 = 1;

/// Options of `http check`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address of the server: http://127.0.0.1:9000
    #[arg(value_name = "URL", value_parser = Upstream::from_str)]
    url: Upstream,
    /// Path that the job is posted to
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = Path::from_str)]
    path: Path,
    /// Path that answers 2xx while the server takes jobs
    #[arg(long, value_name = "PATH", default_value = "/health", value_parser = Path::from_str)]
    health_path: Path,
    /// Input of the job, JSON
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = json)]
    input: Value,
    /// Maximum time without a byte of the response, s
    #[arg(long, value_name = "S", default_value_t = 60)]
    timeout_s: u64,
}

fn json(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text)
}

/// Checks the server, prints what passes and returns the exit status.
///
/// # Errors
/// The HTTP client cannot be created.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    warmq_process::tls::install_crypto_provider();
    let timeout = Duration::from_secs(args.timeout_s);
    let mut options = Options::new(Target::Running(args.url.0));
    (options.path, options.health_path) = (args.path.0, args.health_path.0);
    options.timeout = Some(timeout);
    let runtime = tokio::runtime::Runtime::new()?;
    let findings = runtime.block_on(check(options, args.input));
    let findings = findings.map_err(anyhow::Error::msg)?;
    print!("{}", text(&findings));
    let has_failed = findings
        .iter()
        .any(|finding| finding.grade == Grade::Failed);
    Ok(match has_failed {
        true => EXIT_FAILED.into(),
        false => ExitCode::SUCCESS,
    })
}

fn text(findings: &[Finding]) -> String {
    let mut table = Table::new(["part", "", "found"]);
    for finding in findings {
        let grade = finding.grade.to_string();
        let details = escape(&finding.details);
        table.row([finding.part, &grade, &details]);
    }
    table.to_string()
}
