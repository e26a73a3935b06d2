//! A private RabbitMQ node.
//!
//! Erlang nodes find each other through a port mapper, `epmd`. This node has a private one, since
//! the first node of a machine starts one that outlives it.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use tokio::process::Command;
use warmq_types::server_url::ServerUrl;

use crate::error::Error;
use crate::folder::Folder;
use crate::process::Process;

use super::{READY_TIMEOUT, port, program, url};

/// Debian's node itself; the `rabbitmq-server` in `PATH` changes the user first.
const DEBIAN: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Debian's tool; the one in `PATH` changes the user first.
const DEBIAN_TOOL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// One scheduler thread: a test's broker has little to do, and its machine few processors.
const ONE_SCHEDULER: &str = "+S 1:1";

/// A running RabbitMQ without plugins. Dereferences to its [`Process`]: the node itself, not a
/// script.
#[derive(Debug)]
pub struct PrivateRabbit {
    process: Process,
    _port_mapper: Process,
    node: Node,
    url: ServerUrl,
    folder: Folder,
}

/// The identity of a node.
#[derive(Debug)]
struct Node {
    name: String,
    amqp_port: u16,
    /// Port for other nodes.
    distribution_port: u16,
    port_mapper_port: u16,
    /// Arguments of Erlang's virtual machine besides RabbitMQ's own.
    erlang_args: &'static str,
}

impl PrivateRabbit {
    /// Starts a node on free ports and waits until it accepts connections. `config`: lines of
    /// `rabbitmq.conf`, such as `consumer_timeout = 3000`. Its temporary folder is kept when a test
    /// panics.
    ///
    /// # Errors
    /// It is not installed, or did not get ready: the error shows the end of its log.
    pub async fn start(config: &[&str]) -> Result<Self, Error> {
        Self::start_with(Folder::temporary()?, config, ONE_SCHEDULER).await
    }

    /// As [`PrivateRabbit::start`], with a scheduler thread per core, RabbitMQ's default: for
    /// measurements.
    ///
    /// # Errors
    /// As [`PrivateRabbit::start`].
    pub async fn start_on_all_cores(config: &[&str]) -> Result<Self, Error> {
        Self::start_with(Folder::temporary()?, config, "").await
    }

    /// As [`PrivateRabbit::start`], with its data and log in `folder`, which is kept.
    ///
    /// # Errors
    /// As [`PrivateRabbit::start`]; also, the folder cannot be made.
    pub async fn start_in(folder: &Path, config: &[&str]) -> Result<Self, Error> {
        Self::start_with(Folder::given(folder)?, config, ONE_SCHEDULER).await
    }

    async fn start_with(
        folder: Folder,
        config: &[&str],
        erlang_args: &'static str,
    ) -> Result<Self, Error> {
        for (file, text) in [
            ("rabbitmq.conf", config.join("\n") + "\n"),
            ("enabled_plugins", "[].\n".to_owned()),
        ] {
            std::fs::write(folder.path().join(file), text).map_err(Error::io(file))?;
        }
        let amqp_port = port::free()?;
        let node = Node {
            // By the name of loopback: in containers the host's own often does not resolve.
            name: format!("warmq-{amqp_port}@localhost"),
            amqp_port,
            distribution_port: port::free()?,
            port_mapper_port: port::free()?,
            erlang_args,
        };
        let url = url(&format!("amqp://guest:guest@127.0.0.1:{amqp_port}/%2f"))?;
        let port_mapper = node.spawn_port_mapper(folder.path())?;
        let process = node.spawn(folder.path())?;
        let mut rabbit = Self {
            process,
            _port_mapper: port_mapper,
            node,
            url,
            folder,
        };
        rabbit.wait_until_ready().await?;
        Ok(rabbit)
    }

    /// Its URL, which does not change.
    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// Restarts it with the same data at the same address, and waits until it accepts connections.
    /// Kills it first if it runs.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.process.kill9().await?;
        self.process = self.node.spawn(self.folder.path())?;
        self.wait_until_ready().await
    }

    /// Runs `rabbitmqctl`, for example with `["set_vm_memory_high_watermark", "absolute", "1"]`,
    /// which sets an alarm. Returns its output after a second or two.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub async fn ctl(&self, args: &[&str]) -> Result<String, Error> {
        let mut command = Command::new(program("rabbitmqctl", &[DEBIAN_TOOL], "rabbitmq-server")?);
        self.node.set_environment(&mut command, self.folder.path());
        let output = command.args(["--node", &self.node.name]).args(args);
        let output = output.output().await.map_err(Error::io("rabbitmqctl"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Setting {
            what: "rabbitmqctl",
            reason: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    async fn wait_until_ready(&mut self) -> Result<(), Error> {
        let url = &self.url;
        self.process
            .ready(READY_TIMEOUT, async |_| {
                warmq_broker::connect(url, "warmq-testkit").await.ok()
            })
            .await
            .map(drop)
    }
}

impl Node {
    fn spawn(&self, folder: &Path) -> Result<Process, Error> {
        let mut command = Command::new(program("rabbitmq-server", &[DEBIAN], "rabbitmq-server")?);
        self.set_environment(&mut command, folder);
        command
            // Makes the script exec the node instead of waiting for it, without a shell.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env_remove("NOTIFY_SOCKET")
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.amqp_port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", self.erlang_args)
            // Its standard output and error go where its log goes.
            .env("RABBITMQ_LOGS", folder.join("rabbitmq.log"));
        for (variable, file) in [
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
            // Need not exist; otherwise the machine's own would be read.
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
            ("RABBITMQ_MNESIA_BASE", "data"),
            ("RABBITMQ_MNESIA_DIR", "data/node"),
            ("RABBITMQ_FEATURE_FLAGS_FILE", "data/feature_flags"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_PID_FILE", "pid"),
        ] {
            command.env(variable, folder.join(file));
        }
        Process::spawn(command, "rabbitmq", folder)
    }

    /// Sets what node and tools must share, and removes the settings of this machine's own node.
    fn set_environment(&self, command: &mut Command, folder: &Path) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RABBITMQ_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(folder)
            // Erlang's cookie is there.
            .env("HOME", folder)
            .env("ERL_EPMD_PORT", self.port_mapper_port.to_string())
            // Need not exist; otherwise the machine's own would be read.
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("rabbitmq-env.conf"));
    }

    fn spawn_port_mapper(&self, folder: &Path) -> Result<Process, Error> {
        // In the foreground, as a child; Erlang would start it in the background.
        let mut command = Command::new(program("epmd", &[], "erlang-base")?);
        command.args(["-address", "127.0.0.1", "-port"]);
        command.arg(self.port_mapper_port.to_string());
        Process::spawn(command, "epmd", folder)
    }
}

impl Deref for PrivateRabbit {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for PrivateRabbit {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
