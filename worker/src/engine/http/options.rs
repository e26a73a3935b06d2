//! Settings of the `http` engine.

use std::str::FromStr;
use std::time::Duration;

use url::Url;
use warmq_config::{CommandLine, DurationSetting, Settings};

use super::fal::{ClassInFile, ClassSettings, FalApp};

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
    /// Class of fal's Python package that is the model server: app.py::MyApp
    #[arg(long, env = "WARMQ_FAL", value_name = "FILE::CLASS")]
    pub fal: Option<String>,
    /// Python that has the packages of --fal [default: python3]
    #[arg(long, env = "WARMQ_PYTHON", value_name = "PATH")]
    pub python: Option<String>,
    /// Time in which a server of --spawn or --fal must take jobs; then it is restarted [default:
    /// 10m]
    #[arg(long, env = "WARMQ_STARTUP_TIMEOUT", value_name = "TIME")]
    pub startup_timeout: Option<String>,
}

/// Default for [`Options::timeout`].
const TIMEOUT: Duration = Duration::from_secs(3600);

/// Default for [`Options::startup_timeout`].
const STARTUP_TIMEOUT: Duration = Duration::from_secs(600);

/// Options of the `http` engine.
#[derive(Debug, Clone)]
pub struct Options {
    /// The model server.
    pub target: Target,
    /// Path of jobs that have none of their own, without a leading slash.
    pub path: String,
    /// Path of the readiness probe, without a leading slash.
    pub health_path: String,
    /// Maximum time without a byte of the response, if set.
    pub timeout: Option<Duration>,
    /// Time in which a server that the worker starts must take jobs, if set.
    pub startup_timeout: Option<Duration>,
    /// Settings of the class in [`Target::Fal`], once known.
    class: ClassSettings,
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
    /// The worker starts a class of fal's package.
    Fal(FalApp),
}

impl Options {
    /// Reads the settings; returns `None` if there is none, or after recording a problem.
    pub fn read(settings: &mut Settings, args: &HttpArgs) -> Option<Self> {
        let upstream = settings.take_optional::<Upstream>("upstream", args.upstream.as_deref());
        let path = settings.take::<Path>("upstream_path", args.upstream_path.as_deref(), "/");
        let health_path =
            settings.take::<Path>("health_path", args.health_path.as_deref(), "/health");
        let mut time = |key: &str, flag: &Option<String>| {
            let time = settings.take_optional::<DurationSetting>(key, flag.as_deref());
            time.map(DurationSetting::duration)
        };
        let timeout = time("upstream_timeout", &args.upstream_timeout);
        let startup_timeout = time("startup_timeout", &args.startup_timeout);
        let spawn = settings.take_optional::<CommandLine>("spawn", args.spawn.as_deref());
        let fal = settings.take_optional::<ClassInFile>("fal", args.fal.as_deref());
        let python = settings.take::<String>("python", args.python.as_deref(), "python3");
        let target = match (upstream, spawn, fal) {
            (None, None, None) => return None,
            (None, None, Some(class)) => Target::Fal(fal_app(settings, class, python?)?),
            (_, _, Some(_)) => {
                settings.problem(
                    "fal: it starts a server of its own; unset --upstream and --spawn".to_owned(),
                );
                return None;
            }
            (Some(Upstream(url)), None, None) => Target::Running(url),
            (upstream, Some(command), None) => {
                let upstream = upstream.map(|Upstream(url)| url);
                spawned(settings, command.into_words(), upstream)?
            }
        };
        Some(Self {
            target,
            path: path?.0,
            health_path: health_path?.0,
            timeout,
            startup_timeout,
            class: ClassSettings::default(),
        })
    }

    /// Returns the default options for a server.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            path: String::new(),
            health_path: "health".to_owned(),
            timeout: None,
            startup_timeout: None,
            class: ClassSettings::default(),
        }
    }

    /// Returns the maximum time without a byte of the response.
    pub fn timeout(&self) -> Duration {
        let timeout = self.timeout.or(self.class.request_timeout());
        timeout.unwrap_or(TIMEOUT)
    }

    /// Returns the time in which a server that the worker starts must take jobs.
    pub fn startup_timeout(&self) -> Duration {
        let timeout = self.startup_timeout.or(self.class.startup_timeout());
        timeout.unwrap_or(STARTUP_TIMEOUT)
    }

    /// Returns the settings of the class in [`Target::Fal`].
    pub(crate) fn class(&self) -> &ClassSettings {
        &self.class
    }

    /// Reads the settings of the class in [`Target::Fal`]. A class that cannot be imported now may
    /// be later, so that is no error.
    pub(crate) async fn read_class(&mut self) {
        let Target::Fal(app) = &self.target else {
            return;
        };
        match app.describe().await {
            Ok(class) => self.class = class,
            Err(reason) => {
                tracing::warn!(
                    reason,
                    "the fal app cannot be imported: its settings are unknown"
                );
            }
        }
    }
}

fn fal_app(settings: &mut Settings, class: ClassInFile, python: String) -> Option<FalApp> {
    let app = FalApp::new(class, python);
    app.map_err(|error| settings.problem(format!("fal: no temporary file: {error}")))
        .ok()
}

fn spawned(settings: &mut Settings, command: Vec<String>, upstream: Option<Url>) -> Option<Target> {
    let has_port = command.iter().any(|word| word.contains(PORT));
    if has_port == upstream.is_some() {
        settings.problem(format!(
            "spawn: put {PORT} into the command, or set --upstream to the address that it listens \
             on; not both"
        ));
        return None;
    }
    Some(Target::Spawned { command, upstream })
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
    fn settings_of_a_fal_app_come_after_those_of_the_worker() {
        let read = |file: &str| read(file).unwrap().unwrap();
        let mut options = read("fal = 'app.py::MyApp'\nupstream_timeout = '5s'");
        assert_eq!(options.startup_timeout(), STARTUP_TIMEOUT);
        let class = r#"{"request_timeout": 7, "startup_timeout": 9}"#;
        options.class = serde_json::from_str(class).unwrap();
        assert_eq!(options.timeout(), Duration::from_secs(5));
        assert_eq!(options.startup_timeout(), Duration::from_secs(9));
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
            ("fal = 'app.py'", "app.py::MyApp"),
            (
                "fal = 'app.py::MyApp'\nspawn = 'server'",
                "unset --upstream",
            ),
        ] {
            let error = read(setting).err().unwrap_or_default();
            assert!(error.contains(remedy), "{setting}: {error}");
        }
    }
}
