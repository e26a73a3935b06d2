//! A testbed: a private namespace on the servers, a private folder, and the processes started in
//! them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::process::Command;
use warmq_broker::{Publisher, Topology};
use warmq_store::Store;
use warmq_types::ids::{AppId, Epoch, Namespace, RunnerId};
use warmq_types::queue_type::QueueType;
use warmq_types::server_url::ServerUrl;

use crate::binaries;
use crate::cleanup::Remains;
use crate::error::Error;
use crate::folder::Folder;
use crate::process::Process;
use crate::router::{self, Router};
use crate::worker::{self, Worker, WorkerOptions};

const DEFAULT_AMQP_URL: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";
const DEFAULT_REDIS_URL: &str = "redis://127.0.0.1:6379/0";

/// The options of a testbed, each with a default.
#[derive(Debug, Default)]
pub struct Builder {
    namespace: Option<Namespace>,
    folder: Option<PathBuf>,
    amqp_url: Option<String>,
    redis_url: Option<String>,
    queue_type: QueueType,
    config: String,
    log: Option<String>,
    authority: Option<PathBuf>,
    programs: Option<PathBuf>,
}

impl Builder {
    /// Sets the prefix of all names [default: `t-` and eight random digits].
    #[must_use]
    pub fn namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Sets the folder of logs and pictures [default: a temporary folder, kept when a test panics].
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets RabbitMQ [default: `WARMQ_AMQP_URL`, otherwise this machine's].
    #[must_use]
    pub fn amqp_url(mut self, url: impl Into<String>) -> Self {
        self.amqp_url = Some(url.into());
        self
    }

    /// Sets Redis [default: `WARMQ_REDIS_URL`, otherwise this machine's].
    #[must_use]
    pub fn redis_url(mut self, url: impl Into<String>) -> Self {
        self.redis_url = Some(url.into());
        self
    }

    /// Sets the type of the durable queues [default: classic].
    #[must_use]
    pub fn queue_type(mut self, queue_type: QueueType) -> Self {
        self.queue_type = queue_type;
        self
    }

    /// Sets the `warmq.toml` of all processes [default: empty].
    #[must_use]
    pub fn config(mut self, toml: impl Into<String>) -> Self {
        self.config = toml.into();
        self
    }

    /// Sets the filter of all processes' logs, and writes those as JSON [default: `WARMQ_LOG` and
    /// `WARMQ_LOG_FORMAT`].
    #[must_use]
    pub fn json_log(mut self, filter: impl Into<String>) -> Self {
        self.log = Some(filter.into());
        self
    }

    /// Sets a PEM file with the only trusted authorities [default: the system's].
    #[must_use]
    pub fn trusted_authority(mut self, authority: impl Into<PathBuf>) -> Self {
        self.authority = Some(authority.into());
        self
    }

    /// Sets the folder of the programs that are started, until
    /// [`Testbed::use_own_programs`] [default: this build's].
    #[must_use]
    pub fn programs(mut self, folder: Option<PathBuf>) -> Self {
        self.programs = folder;
        self
    }

    /// Checks that both servers respond, and prepares the folder. Starts no process yet.
    ///
    /// # Errors
    /// A server does not answer, a URL is wrong, or the folder cannot be made.
    pub async fn start(self) -> Result<Testbed, Error> {
        let amqp_url = server_url("WARMQ_AMQP_URL", self.amqp_url, DEFAULT_AMQP_URL)?;
        let redis_url = server_url("WARMQ_REDIS_URL", self.redis_url, DEFAULT_REDIS_URL)?;
        let namespace = match self.namespace {
            Some(namespace) => namespace,
            None => random_namespace()?,
        };
        let folder = match &self.folder {
            Some(path) => Folder::given(path)?,
            None => Folder::temporary()?,
        };
        // The processes run in this folder, so that they read no other warmq.toml.
        std::fs::write(folder.path().join("warmq.toml"), &self.config)
            .map_err(Error::io("warmq.toml"))?;
        let store = Store::connect(&redis_url, namespace.clone()).await?;
        let publisher = Publisher::new(amqp_url.clone(), "warmq-testkit");
        publisher.channel().await?;
        Ok(Testbed {
            topology: Topology::new(namespace.clone(), self.queue_type),
            queue_type: self.queue_type,
            namespace,
            amqp_url,
            redis_url,
            folder,
            log: self.log,
            authority: self.authority,
            store,
            publisher,
            started: Mutex::new(Started {
                programs: self.programs,
                ..Started::default()
            }),
        })
    }
}

/// A namespace on RabbitMQ and Redis, and the routers and workers that this process started in it.
pub struct Testbed {
    namespace: Namespace,
    amqp_url: ServerUrl,
    redis_url: ServerUrl,
    queue_type: QueueType,
    topology: Topology,
    folder: Folder,
    log: Option<String>,
    authority: Option<PathBuf>,
    store: Store,
    publisher: Publisher,
    started: Mutex<Started>,
}

/// What the testbed has started so far.
#[derive(Debug, Default)]
struct Started {
    routers: usize,
    /// Folder of the programs to start; `None`: this build's.
    programs: Option<PathBuf>,
    /// Apps of its workers, which Redis may have lost.
    apps: BTreeSet<AppId>,
    /// Incarnations of runners, whose queues survive a crash.
    runners: Vec<(RunnerId, Epoch)>,
    /// Whether nothing is left on the servers.
    clean: bool,
}

impl Testbed {
    /// Returns a builder with defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns the prefix of all names.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns the URL of RabbitMQ.
    pub fn amqp_url(&self) -> &ServerUrl {
        &self.amqp_url
    }

    /// Returns the URL of Redis.
    pub fn redis_url(&self) -> &ServerUrl {
        &self.redis_url
    }

    /// Returns the names on RabbitMQ.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Returns a connection to Redis.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns a publisher on RabbitMQ.
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Returns the folder of logs and pictures.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a router on a free port and waits until it accepts connections. `args` follow the
    /// usual flags.
    ///
    /// # Errors
    /// It is not built, or did not get ready: the error shows the end of its log.
    pub async fn router(&self, args: &[&str]) -> Result<Router, Error> {
        self.router_at("127.0.0.1:0", args).await
    }

    /// As [`Testbed::router`], at a given address, to restart a router at the same one.
    ///
    /// # Errors
    /// As [`Testbed::router`]; also, the address is taken.
    pub async fn router_at(&self, listen: &str, args: &[&str]) -> Result<Router, Error> {
        let number = {
            let mut started = self.started();
            started.routers += 1;
            started.routers
        };
        let mut command = self.command("warmq-router")?;
        command.arg("--listen").arg(listen).args(args);
        let mut process = Process::spawn(command, &format!("router-{number}"), self.folder.path())?;
        let url = process
            .ready(router::READY_TIMEOUT, async |process| {
                router::announced_url(&process.output())
            })
            .await?;
        Ok(Router { process, url })
    }

    /// Starts a worker and waits until all its runners are registered in Redis.
    ///
    /// # Errors
    /// It is not built, or did not get ready: the error shows the end of its log.
    pub async fn worker(&self, options: WorkerOptions) -> Result<Worker, Error> {
        let (_, app) = options.names().map_err(|error| Error::Setting {
            what: "worker",
            reason: error.to_string(),
        })?;
        self.started().apps.insert(app.clone());
        let mut command = self.command("warmq-worker")?;
        command
            .args(options.flags())
            .envs(options.env.iter().cloned());
        let mut process = Process::spawn(command, &options.name, self.folder.path())?;
        let pid = process.pid();
        let wanted = usize::try_from(options.concurrency.max(1)).unwrap_or(usize::MAX);
        let runners = process
            .ready(worker::READY_TIMEOUT, async |_| {
                let mut runners = self.store.runners().list(&app).await.ok()?;
                runners.retain(|runner| runner.pid == pid);
                (runners.len() >= wanted).then_some(runners)
            })
            .await?;
        let incarnations = runners
            .iter()
            .map(|runner| (runner.id.clone(), runner.epoch));
        self.started().runners.extend(incarnations);
        Ok(Worker {
            process,
            app,
            runners,
        })
    }

    /// Starts this build's programs from now on.
    pub fn use_own_programs(&self) {
        self.started().programs = None;
    }

    /// Deletes the namespace's queues, exchanges and keys. Stop its processes before, since they
    /// would declare them again. Queues of unknown incarnations (a runner that registered again)
    /// expire by themselves.
    ///
    /// A testbed that is dropped without it, as by a failed test, cleans up then.
    ///
    /// # Errors
    /// A server is away.
    pub async fn cleanup(&self) -> Result<(), Error> {
        self.remains().delete().await?;
        self.started().clean = true;
        Ok(())
    }

    fn remains(&self) -> Remains {
        let started = self.started();
        Remains {
            namespace: self.namespace.clone(),
            amqp_url: self.amqp_url.clone(),
            redis_url: self.redis_url.clone(),
            apps: started.apps.clone(),
            runners: started.runners.clone(),
        }
    }

    /// Returns a command of `program` in this testbed's folder and namespace, without settings of
    /// the caller's environment.
    fn command(&self, program: &'static str) -> Result<Command, Error> {
        let programs = {
            let mut started = self.started();
            started.clean = false;
            started.programs.clone()
        };
        let mut command = Command::new(binaries::find(program, programs.as_deref())?);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
            command.env_remove(name);
        }
        if let Some(authority) = &self.authority {
            command.env("SSL_CERT_FILE", authority);
        }
        if let Some(filter) = &self.log {
            command
                .env("WARMQ_LOG", filter)
                .env("WARMQ_LOG_FORMAT", "json");
        }
        // URLs may contain passwords, and command lines are public.
        command
            .current_dir(self.folder.path())
            .env("NO_COLOR", "1")
            .env("WARMQ_NAMESPACE", self.namespace.as_str())
            .env("WARMQ_AMQP_URL", self.amqp_url.expose())
            .env("WARMQ_REDIS_URL", self.redis_url.expose())
            .env("WARMQ_QUEUE_TYPE", self.queue_type.to_string())
            .env("WARMQ_STORAGE", self.storage_url());
        Ok(command)
    }

    fn storage_url(&self) -> String {
        format!("file://{}/files", self.folder.path().display())
    }

    fn started(&self) -> std::sync::MutexGuard<'_, Started> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if !self.started().clean {
            self.remains().delete_blocking();
        }
    }
}

/// Returns whether an environment variable is a setting. `WARMQ_LOG` and `WARMQ_LOG_FORMAT` are
/// inherited.
fn is_setting(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("WARMQ_") && !name.starts_with("WARMQ_LOG")
}

fn server_url(
    variable: &'static str,
    given: Option<String>,
    default: &str,
) -> Result<ServerUrl, Error> {
    given
        .or_else(|| std::env::var(variable).ok())
        .unwrap_or_else(|| default.to_owned())
        .parse()
        .map_err(|reason| Error::Setting {
            what: variable,
            reason,
        })
}

fn random_namespace() -> Result<Namespace, Error> {
    let random = uuid::Uuid::new_v4().simple().to_string();
    Namespace::parse(&format!("t-{}", &random[..8])).map_err(|error| Error::Setting {
        what: "namespace",
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_inherit_only_the_log_filter_of_the_callers_settings() {
        assert!(is_setting(OsStr::new("WARMQ_CONFIG")));
        assert!(!is_setting(OsStr::new("WARMQ_LOG")));
        assert!(!is_setting(OsStr::new("PATH")));
    }

    #[test]
    fn random_namespaces_are_valid_and_differ() {
        assert_ne!(random_namespace().unwrap(), random_namespace().unwrap());
    }
}
