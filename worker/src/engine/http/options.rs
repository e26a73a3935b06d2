//! Settings of the `http` engine.

use std::str::FromStr;
use std::time::Duration;

use url::Url;
use warmq_config::{DurationSetting, Settings};

/// The part of a spawn command that is replaced by a free port.
pub(super) const PORT: &str = "{port}";

/// Flags of the `http` engine.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct HttpArgs {
    /// Model server of engine http: http://127.0.0.1:9000
    #[arg(long, env = "WARMQ_UPSTREAM", value_name = "URL")]
    pub upstream: Option<String>,
    /// Path of jobs that have none of their own [default: /]
    #[arg(long, env = "WARMQ_UPSTREAM_PATH", value_name = "PATH")]
    pub upstream_path: Option<String>,
    /// Maximum time without a byte of the model server's response [default: 1h]
    #[arg(long, env = "WARMQ_UPSTREAM_TIMEOUT", value_name = "TIME")]
    pub upstream_timeout: Option<String>,
    /// Path that answers 2xx while the model server takes jobs [default: /health]
    #[arg(long, env = "WARMQ_HEALTH_PATH", value_name = "PATH")]
    pub health_path: Option<String>,
    /// Command that starts the model server, and restarts it: "python server.py --port {port}"
    #[arg(long, env = "WARMQ_SPAWN", value_name = "COMMAND")]
    pub spawn: Option<String>,
}

/// Options of the `http` engine.
#[derive(Debug, Clone)]
pub struct Options {
    /// The model server.
    pub target: Target,
    /// Path of jobs that have none of their own, without a leading slash.
    pub path: String,
    /// Path of the readiness probe, without a leading slash.
    pub health_path: String,
    /// Maximum time without a byte of the response.
    pub timeout: Duration,
}

/// Where the model server is.
#[derive(Debug, Clone)]
pub enum Target {
    /// It runs by itself.
    Running(Url),
    /// The worker starts it.
    Spawned {
        /// Program and arguments; [`PORT`] in them is replaced by the port.
        command: Vec<String>,
        /// Its address; `None` for a free port of this machine.
        upstream: Option<Url>,
    },
}

impl Options {
    /// Reads the settings; returns `None` if there is none, or after recording a problem.
    pub fn read(settings: &mut Settings, args: &HttpArgs) -> Option<Self> {
        let upstream = settings.take_optional::<Upstream>("upstream", args.upstream.as_deref());
        let path = settings.take::<Path>("upstream_path", args.upstream_path.as_deref(), "/");
        let health_path =
            settings.take::<Path>("health_path", args.health_path.as_deref(), "/health");
        let timeout = settings.take::<DurationSetting>(
            "upstream_timeout",
            args.upstream_timeout.as_deref(),
            "1h",
        );
        let spawn = settings.take_optional::<Command>("spawn", args.spawn.as_deref());
        let target = match (upstream, spawn) {
            (None, None) => return None,
            (Some(Upstream(url)), None) => Target::Running(url),
            (upstream, Some(Command(command))) => {
                let has_port = command.iter().any(|word| word.contains(PORT));
                if has_port == upstream.is_some() {
                    settings.problem(format!(
                        "spawn: put {PORT} into the command, or set --upstream to the address that \
                         it listens on; not both"
                    ));
                    return None;
                }
                Target::Spawned {
                    command,
                    upstream: upstream.map(|Upstream(url)| url),
                }
            }
        };
        Some(Self {
            target,
            path: path?.0,
            health_path: health_path?.0,
            timeout: timeout?.duration(),
        })
    }
}

/// The address of a model server.
#[derive(Debug, Clone)]
pub(crate) struct Upstream(pub(crate) Url);

impl FromStr for Upstream {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let example = "set an address such as http://127.0.0.1:9000";
        let url = Url::parse(text).map_err(|error| format!("'{text}': {error}: {example}"))?;
        let is_address = matches!(url.scheme(), "http" | "https")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        match is_address {
            true => Ok(Self(url)),
            false => Err(format!(
                "'{text}' is not the address of a server: {example}"
            )),
        }
    }
}

/// A path below the upstream, without a leading slash.
#[derive(Debug, Clone)]
pub(crate) struct Path(pub(crate) String);

impl FromStr for Path {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('/') {
            Some(path) if !path.contains(['?', '#']) => Ok(Self(path.to_owned())),
            _ => Err(format!("'{text}' is not a path such as /generate")),
        }
    }
}

/// A command line, split as a shell splits it.
struct Command(Vec<String>);

impl FromStr for Command {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match shlex::split(text) {
            Some(words) if !words.is_empty() => Ok(Self(words)),
            Some(_) => Err("the command is empty".to_owned()),
            None => Err(format!("a quote in '{text}' is not closed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str) -> Result<Option<Options>, String> {
        let mut settings = Settings::from_toml(file, "warmq.toml");
        let options = Options::read(&mut settings, &HttpArgs::default());
        let read = settings.finish(Some(options));
        read.map_err(|problems| problems.to_string())
    }

    #[test]
    fn an_upstream_is_enough() {
        let options = read("upstream = 'http://gpu:9000'").unwrap().unwrap();
        assert!(matches!(&options.target, Target::Running(url) if url.port() == Some(9000)));
        assert_eq!(options.health_path, "health");
        assert!(read("").unwrap().is_none());
    }

    #[test]
    fn a_spawned_server_gets_a_free_port_or_has_an_address() {
        let options = read("spawn = 'python \"my server.py\" --port {port}'");
        let Target::Spawned { command, upstream } = options.unwrap().unwrap().target else {
            panic!("it is spawned");
        };
        assert_eq!(command, ["python", "my server.py", "--port", "{port}"]);
        assert_eq!(upstream, None);
        assert!(read("spawn = 'server'\nupstream = 'http://127.0.0.1:9000'").is_ok());
        let neither = read("spawn = 'server'").unwrap_err();
        assert!(neither.contains("{port}"), "{neither}");
    }

    #[test]
    fn wrong_values_are_refused_with_an_example() {
        for (setting, remedy) in [
            ("upstream = 'gpu:9000'", "http://127.0.0.1:9000"),
            ("upstream = 'redis://gpu'", "http://127.0.0.1:9000"),
            ("upstream = 'http://gpu/?a=1'", "http://127.0.0.1:9000"),
            ("upstream_path = 'generate'", "/generate"),
            ("spawn = 'python \"a'", "not closed"),
            ("spawn = ' '", "empty"),
        ] {
            let error = read(setting).err().unwrap_or_default();
            assert!(error.contains(remedy), "{setting}: {error}");
        }
    }
}
