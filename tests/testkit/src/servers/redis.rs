//! A private Redis.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use tokio::process::Command;
use warmq_types::server_url::ServerUrl;

use crate::error::Error;
use crate::folder::Folder;
use crate::process::Process;

use super::{READY_TIMEOUT, port, program, url};

/// A running Redis with `appendfsync always`: acknowledged writes survive a kill. Dereferences to
/// its [`Process`].
#[derive(Debug)]
pub struct PrivateRedis {
    process: Process,
    port: u16,
    settings: Vec<(&'static str, String)>,
    url: ServerUrl,
    folder: Folder,
}

impl PrivateRedis {
    /// Starts a server on a free port and waits until it responds. Its temporary folder is kept
    /// when a test panics.
    ///
    /// # Errors
    /// It is not installed, or did not get ready: the error shows the end of its log.
    pub async fn start() -> Result<Self, Error> {
        Self::start_with(Folder::temporary()?, Vec::new()).await
    }

    /// As [`PrivateRedis::start`], with more settings, such as `("--tls-port", "7000")`.
    ///
    /// # Errors
    /// As [`PrivateRedis::start`].
    pub async fn start_configured(
        settings: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Self, Error> {
        Self::start_with(Folder::temporary()?, settings.into_iter().collect()).await
    }

    /// As [`PrivateRedis::start`], with its data and log in `folder`, which is kept.
    ///
    /// # Errors
    /// As [`PrivateRedis::start`]; also, the folder cannot be made.
    pub async fn start_in(folder: &Path) -> Result<Self, Error> {
        Self::start_with(Folder::given(folder)?, Vec::new()).await
    }

    async fn start_with(
        folder: Folder,
        settings: Vec<(&'static str, String)>,
    ) -> Result<Self, Error> {
        let port = port::free()?;
        let url = url(&format!("redis://127.0.0.1:{port}/0"))?;
        let process = spawn(folder.path(), port, &settings)?;
        let mut redis = Self {
            process,
            port,
            settings,
            url,
            folder,
        };
        redis.wait_until_ready().await?;
        Ok(redis)
    }

    /// Its URL, which does not change.
    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// Restarts it with the same data at the same address, and waits until it responds. Kills it
    /// first if it runs.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.process.kill9().await?;
        self.process = spawn(self.folder.path(), self.port, &self.settings)?;
        self.wait_until_ready().await
    }

    /// Returns a counter of `INFO stats`, such as `total_commands_processed`.
    ///
    /// # Errors
    /// Redis does not answer, or has no such counter.
    pub async fn stat(&self, name: &'static str) -> Result<u64, Error> {
        let client = redis::Client::open(self.url.expose())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut info = redis::cmd("INFO");
        let stats: String = info.arg("stats").query_async(&mut connection).await?;
        let mut values = stats.lines().filter_map(|line| line.split_once(':'));
        let value = values.find(|(found, _)| *found == name);
        let number = value.and_then(|(_, value)| value.trim().parse().ok());
        number.ok_or_else(|| Error::Setting {
            what: name,
            reason: "not a counter of INFO stats".to_owned(),
        })
    }

    /// Deletes all keys.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn flush(&self) -> Result<(), Error> {
        let client = redis::Client::open(self.url.expose())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        Ok(redis::cmd("FLUSHALL").query_async(&mut connection).await?)
    }

    /// Waits until its data is loaded.
    async fn wait_until_ready(&mut self) -> Result<(), Error> {
        let client = redis::Client::open(self.url.expose())?;
        self.process
            .ready(READY_TIMEOUT, async |_| {
                let mut connection = client.get_multiplexed_async_connection().await.ok()?;
                let pong: redis::RedisResult<()> =
                    redis::cmd("PING").query_async(&mut connection).await;
                pong.ok()
            })
            .await
    }
}

fn spawn(folder: &Path, port: u16, more: &[(&str, String)]) -> Result<Process, Error> {
    let mut command = Command::new(program("redis-server", &[], "redis-server")?);
    command.current_dir(folder);
    for (setting, value) in [
        ("--bind", "127.0.0.1"),
        ("--port", &port.to_string()),
        ("--dir", "."),
        ("--appendonly", "yes"),
        ("--appendfsync", "always"),
        ("--save", ""),
        // The file of its standard error, which errors quote.
        ("--logfile", "redis.log"),
    ] {
        command.args([setting, value]);
    }
    for (setting, value) in more {
        command.args([setting, value.as_str()]);
    }
    Process::spawn(command, "redis", folder)
}

impl Deref for PrivateRedis {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for PrivateRedis {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
