//! The router's settings.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use warmq_common::config::{ByteSize, Problems, Seconds, ServerArgs, Servers, Settings};

use crate::declared::Declared;

/// Command line of `warmq-router`. Every flag has a variable `WARMQ_…` and a setting in warmq.toml of the same name.
#[derive(Debug, Clone, Default, clap::Parser)]
#[command(name = "warmq-router", version, about)]
pub struct Args {
    #[command(flatten)]
    servers: ServerArgs,
    /// Address to serve HTTP on; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "WARMQ_LISTEN", value_name = "ADDRESS")]
    listen: Option<String>,
    /// How users reach this router: begins every URL in answers [default: http:// and the address served on]
    #[arg(long, env = "WARMQ_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// What this process does, comma-separated: api, dispatch, reply [default: all]
    #[arg(long, env = "WARMQ_ROLES", value_name = "ROLES")]
    roles: Option<String>,
    /// Largest request body [default: 10MiB]
    #[arg(long, env = "WARMQ_MAX_BODY", value_name = "SIZE")]
    max_body: Option<String>,
    /// How long nothing must have been heard of a job before its message counts as lost and is published again [default: 60s]
    #[arg(long, env = "WARMQ_RECONCILE_AFTER", value_name = "TIME")]
    reconcile_after: Option<String>,
    /// How long answers under way may take after the signal to stop, s [default: 30]
    #[arg(long, env = "WARMQ_DRAIN_TIMEOUT_S", value_name = "S")]
    drain_timeout_s: Option<String>,
    /// Serve strangers on an address that is not loopback
    #[arg(long, env = "WARMQ_ALLOW_ANONYMOUS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    allow_anonymous: Option<String>,
}

/// What a router process can do; each role scales alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The doors: HTTP, and AMQP submissions.
    Api,
    /// Dispatchers, one leader per app among all processes.
    Dispatch,
    /// Outcomes for AMQP submitters.
    Reply,
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "api" => Ok(Self::Api),
            "dispatch" => Ok(Self::Dispatch),
            "reply" => Ok(Self::Reply),
            other => Err(format!(
                "unknown role '{other}'; known: api, dispatch, reply"
            )),
        }
    }
}

#[derive(Debug, Clone)]
struct Roles(BTreeSet<Role>);

impl FromStr for Roles {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let roles = text.split(',').map(|role| role.trim().parse());
        roles.collect::<Result<_, _>>().map(Self)
    }
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// RabbitMQ, Redis, storage, namespace.
    pub servers: Servers,
    /// Where to serve HTTP.
    pub listen: SocketAddr,
    /// What this process does.
    pub roles: BTreeSet<Role>,
    /// Largest request body, bytes.
    pub max_body_bytes: usize,
    /// How long nothing must have been heard of a job before its message is published again.
    pub reconcile_after: Duration,
    /// How long answers under way may take after the signal to stop.
    pub drain_timeout: Duration,
    /// What the file says of apps and routes.
    pub declared: Arc<Declared>,
    public_url: Option<url::Url>,
}

impl Config {
    /// Reads flags, environment and file.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read(args: &Args) -> Result<Self, Problems> {
        let mut settings = Settings::read(args.servers.config.as_deref());
        let servers = Servers::read(&mut settings, &args.servers);
        let listen = settings.take("listen", args.listen.as_deref(), "127.0.0.1:8080");
        let public_url = settings.take_optional("public_url", args.public_url.as_deref());
        let roles = settings.take::<Roles>("roles", args.roles.as_deref(), "api,dispatch,reply");
        let max_body = settings.take::<ByteSize>("max_body", args.max_body.as_deref(), "10MiB");
        let anonymous = settings.take("allow_anonymous", args.allow_anonymous.as_deref(), "false");
        let reconcile_after =
            settings.take::<Seconds>("reconcile_after", args.reconcile_after.as_deref(), "60s");
        if reconcile_after.is_some_and(Seconds::is_zero) {
            settings.problem(
                "reconcile-after: it must be more than 0: every job is silent for a moment",
            );
        }
        let drain_s =
            settings.take::<u32>("drain_timeout_s", args.drain_timeout_s.as_deref(), "30");
        let declared = Declared::read(&mut settings);
        if let (Some(listen), Some(false)) = (listen, anonymous) {
            refuse_strangers(&mut settings, listen);
        }
        let config = (|| {
            Some(Self {
                servers: servers?,
                listen: listen?,
                roles: roles?.0,
                max_body_bytes: usize::try_from(max_body?.0).ok()?,
                reconcile_after: reconcile_after?.duration(),
                drain_timeout: Duration::from_secs(drain_s?.into()),
                declared: Arc::new(declared),
                public_url,
            })
        })();
        settings.finish(config)
    }

    /// The URL that begins every link in answers, without a slash at its end. `served`: the address served on.
    pub fn public_url(&self, served: SocketAddr) -> String {
        match &self.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None if served.ip().is_unspecified() => format!("http://127.0.0.1:{}", served.port()),
            None => format!("http://{served}"),
        }
    }
}

/// There are no keys yet, so whoever reaches the router may use it: by default that is this machine alone.
fn refuse_strangers(settings: &mut Settings, listen: SocketAddr) {
    if !listen.ip().is_loopback() {
        settings.problem(format!(
            "listen: {listen} can be reached from other machines, and this router asks nobody for a key; listen on \
             127.0.0.1, or say --allow-anonymous if something in front of it keeps strangers out"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn read(args: &[&str]) -> Result<Config, Problems> {
        Config::read(&Args::parse_from([&["warmq-router"], args].concat()))
    }

    #[test]
    fn strangers_are_refused_unless_allowed() {
        let problems = read(&["--listen", "0.0.0.0:8080"]).unwrap_err();
        assert!(
            problems.to_string().contains("--allow-anonymous"),
            "{problems}"
        );
        let config = read(&["--listen", "0.0.0.0:8080", "--allow-anonymous"]).unwrap();
        assert_eq!(config.public_url(config.listen), "http://127.0.0.1:8080");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let problems =
            read(&["--listen", "here", "--roles", "cook", "--max-body", "big"]).unwrap_err();
        assert_eq!(problems.sentences().len(), 3, "{problems}");
    }

    #[test]
    fn a_public_url_loses_its_last_slash() {
        let config = read(&["--public-url", "https://warmq.example/"]).unwrap();
        assert_eq!(config.public_url(config.listen), "https://warmq.example");
    }
}
