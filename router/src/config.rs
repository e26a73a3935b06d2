//! Settings of the router.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use warmq_config::{
    ByteSize, CommandLine, KeepFor, Problems, SecretText, ServerArgs, Servers, Settings,
};
use warmq_fetch::Allowed;
use warmq_types::access::AdminKey;

use crate::routing_config::RoutingConfig;
use crate::tls::Tls;

/// Command line of `warmq-router`. Every flag has a variable `WARMQ_…` and a setting in warmq.toml
/// of the same name.
#[derive(Debug, Clone, Default, clap::Parser)]
#[command(name = "warmq-router", version, about)]
pub struct Args {
    #[command(flatten)]
    servers: ServerArgs,
    /// Address to serve HTTP on; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "WARMQ_LISTEN", value_name = "ADDRESS")]
    listen: Option<String>,
    /// URL under which users reach this router, the prefix of every URL in responses [default:
    /// http:// or https:// and the listen address]
    #[arg(long, env = "WARMQ_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// Serve HTTPS with this certificate and its chain (PEM)
    #[arg(long, env = "WARMQ_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<String>,
    /// The certificate's private key (PEM)
    #[arg(long, env = "WARMQ_TLS_KEY", value_name = "FILE")]
    tls_key: Option<String>,
    /// Concurrent client connections; further ones receive 503 with Retry-After [default: 4096]
    #[arg(long, env = "WARMQ_MAX_CONNECTIONS", value_name = "N")]
    max_connections: Option<String>,
    /// Roles of this process, comma-separated: api, dispatch, flow, reply, webhook [default: all]
    #[arg(long, env = "WARMQ_ROLES", value_name = "ROLES")]
    roles: Option<String>,
    /// Largest request body, or AMQP submission [default: 16MiB]
    #[arg(long, env = "WARMQ_MAX_BODY", value_name = "SIZE")]
    max_body: Option<String>,
    /// Largest uploaded file [default: 512MiB]
    #[arg(long, env = "WARMQ_MAX_UPLOAD", value_name = "SIZE")]
    max_upload: Option<String>,
    /// Republish a job whose message shows no activity for this long [default: 60s]
    #[arg(long, env = "WARMQ_RECONCILE_AFTER", value_name = "TIME")]
    reconcile_after: Option<String>,
    /// Forget an app without runners, jobs and dead letters for this long, unless warmq.toml names
    /// it [default: 24h]
    #[arg(long, env = "WARMQ_FORGET_APPS_AFTER", value_name = "TIME")]
    forget_apps_after: Option<String>,
    /// How long uploaded files are kept: 12h, 30d, forever [default: 14d]
    #[arg(long, env = "WARMQ_KEEP_UPLOADS", value_name = "TIME")]
    keep_uploads: Option<String>,
    /// Interval at which files of expired jobs and old uploads are deleted [default: 1h]
    #[arg(long, env = "WARMQ_CLEANUP_INTERVAL", value_name = "TIME")]
    cleanup_interval: Option<String>,
    /// Command that starts runners of apps with `max`, called as CMD APP WANTED [default: none]
    #[arg(long, env = "WARMQ_SCALE_HOOK", value_name = "CMD")]
    scale_hook: Option<String>,
    /// How long requests in progress may take after the stop signal, s [default: 30]
    #[arg(long, env = "WARMQ_DRAIN_TIMEOUT_S", value_name = "S")]
    drain_timeout_s: Option<String>,
    /// Private address ranges that webhooks may reach: 10.1.0.0/16,fd00::/8
    /// [default: none]
    #[arg(long, env = "WARMQ_FETCH_ALLOW", value_name = "RANGES")]
    fetch_allow: Option<String>,
    /// Admin key, id:secret, besides those of `warmq keys`: with it the router requires keys from
    /// its start
    #[arg(
        long,
        env = "WARMQ_ADMIN_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    admin_key: Option<SecretText>,
    /// Serve anonymous callers on a non-loopback address while no keys exist
    #[arg(long, env = "WARMQ_ALLOW_ANONYMOUS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    allow_anonymous: Option<String>,
}

/// Roles of a router process; each scales independently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// HTTP and AMQP submissions.
    Api,
    /// Dispatchers, with one leader per app among all processes.
    Dispatch,
    /// Steps of flows.
    Flow,
    /// Replies to AMQP submitters.
    Reply,
    /// Webhooks.
    Webhook,
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "api" => Ok(Self::Api),
            "dispatch" => Ok(Self::Dispatch),
            "flow" => Ok(Self::Flow),
            "reply" => Ok(Self::Reply),
            "webhook" => Ok(Self::Webhook),
            other => Err(format!(
                "unknown role '{other}'; known: api, dispatch, flow, reply, webhook"
            )),
        }
    }
}

/// A URL without query and fragment, to which paths can be appended.
#[derive(Debug, Clone)]
struct PublicUrl(url::Url);

impl FromStr for PublicUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "write https://host/path";
        let url = url::Url::parse(text)
            .map_err(|error| format!("'{text}' is not a URL ({error}); {EXAMPLE}"))?;
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
            return Err(format!("'{text}' is not a URL of HTTP; {EXAMPLE}"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!(
                "'{text}' has a part from ? or # on, and paths are added to it; {EXAMPLE}"
            ));
        }
        Ok(Self(url))
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

/// Validated settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// RabbitMQ, Redis, storage, namespace.
    pub servers: Servers,
    /// Listen address of HTTP.
    pub listen: SocketAddr,
    /// Certificate and key, for HTTPS.
    pub tls: Option<Tls>,
    /// Concurrent client connections.
    pub max_connections: usize,
    /// Roles of this process.
    pub roles: BTreeSet<Role>,
    /// Largest request body, bytes.
    pub max_body_bytes: usize,
    /// Largest uploaded file, bytes.
    pub max_upload_bytes: u64,
    /// Republish a job whose message shows no activity for this long.
    pub reconcile_after: Duration,
    /// Forget an app after this time without runners, jobs and dead letters.
    pub forget_apps_after: Duration,
    /// How long uploaded files are kept.
    pub keep_uploads: KeepFor,
    /// Interval at which files that nothing refers to are deleted.
    pub cleanup_interval: Duration,
    /// Command that starts runners of apps with `max`.
    pub scale_hook: Option<CommandLine>,
    /// How long requests in progress may take after the stop signal.
    pub drain_timeout: Duration,
    /// Key with all rights.
    pub admin_key: Option<AdminKey>,
    /// Serve anonymous callers while no keys exist.
    pub allow_anonymous: bool,
    /// Private address ranges that webhooks may reach.
    pub fetch_allow: Allowed,
    /// Apps and routes of warmq.toml.
    pub declared: Arc<RoutingConfig>,
    public_url: Option<url::Url>,
}

impl Config {
    /// Reads flags, environment and file.
    ///
    /// # Errors
    /// All mistakes in them.
    pub fn read(args: &Args) -> Result<Self, Problems> {
        let mut settings = Settings::read(args.servers.config_file());
        let servers = Servers::read(&mut settings, &args.servers);
        let listen = settings.take_like(
            "listen",
            args.listen.as_deref(),
            "127.0.0.1:8080",
            "127.0.0.1:8080, or 0.0.0.0:8080 for every network ([::1]:8080 with IPv6)",
        );
        let public_url =
            settings.take_optional::<PublicUrl>("public_url", args.public_url.as_deref());
        let roles = settings.take::<Roles>(
            "roles",
            args.roles.as_deref(),
            "api,dispatch,flow,reply,webhook",
        );
        let tls = read_tls(&mut settings, args);
        let max_connections =
            settings.take::<usize>("max_connections", args.max_connections.as_deref(), "4096");
        if max_connections == Some(0) {
            settings.problem("max-connections: must be greater than 0");
        }
        let max_body = settings.take::<ByteSize>("max_body", args.max_body.as_deref(), "16MiB");
        let max_upload =
            settings.take::<ByteSize>("max_upload", args.max_upload.as_deref(), "512MiB");
        let anonymous = settings.take("allow_anonymous", args.allow_anonymous.as_deref(), "false");
        let admin_key = args.admin_key.as_ref().map(SecretText::expose);
        // A compose file sets an absent variable to the empty string.
        let admin_key = admin_key.filter(|key| !key.is_empty());
        let admin_key = settings.take_optional("admin_key", admin_key);
        let reconcile_after =
            settings.take_positive("reconcile_after", args.reconcile_after.as_deref(), "60s");
        let forget_apps_after = settings.take_positive(
            "forget_apps_after",
            args.forget_apps_after.as_deref(),
            "24h",
        );
        let keep_uploads =
            settings.take::<KeepFor>("keep_uploads", args.keep_uploads.as_deref(), "14d");
        let cleanup_interval =
            settings.take_positive("cleanup_interval", args.cleanup_interval.as_deref(), "1h");
        let scale_hook =
            settings.take_optional::<CommandLine>("scale_hook", args.scale_hook.as_deref());
        let drain_s =
            settings.take::<u32>("drain_timeout_s", args.drain_timeout_s.as_deref(), "30");
        let fetch_allow = settings.take::<Allowed>("fetch_allow", args.fetch_allow.as_deref(), "");
        let declared = RoutingConfig::read(&mut settings);
        let config = (|| {
            Some(Self {
                servers: servers?,
                listen: listen?,
                tls,
                max_connections: max_connections?,
                roles: roles?.0,
                max_body_bytes: usize::try_from(max_body?.0).ok()?,
                max_upload_bytes: max_upload?.0,
                reconcile_after: reconcile_after?.duration(),
                forget_apps_after: forget_apps_after?.duration(),
                keep_uploads: keep_uploads?,
                cleanup_interval: cleanup_interval?.duration(),
                scale_hook,
                drain_timeout: Duration::from_secs(drain_s?.into()),
                admin_key,
                allow_anonymous: anonymous?,
                fetch_allow: fetch_allow?,
                declared: Arc::new(declared),
                public_url: public_url.map(|PublicUrl(url)| url),
            })
        })();
        settings.finish(config)
    }

    /// Returns the prefix of every URL in responses, without a trailing slash. `served`: the listen
    /// address.
    pub fn public_url(&self, served: SocketAddr) -> String {
        let scheme = match self.tls {
            Some(_) => "https",
            None => "http",
        };
        match &self.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None if served.ip().is_unspecified() => {
                format!("{scheme}://127.0.0.1:{}", served.port())
            }
            None => format!("{scheme}://{served}"),
        }
    }
}

/// Reads certificate and key, if both are given.
fn read_tls(settings: &mut Settings, args: &Args) -> Option<Tls> {
    let certificate = settings.take_optional::<PathBuf>("tls_cert", args.tls_cert.as_deref());
    let key = settings.take_optional::<PathBuf>("tls_key", args.tls_key.as_deref());
    let missing = match (&certificate, &key) {
        (Some(_), None) => "tls-key",
        (None, Some(_)) => "tls-cert",
        (None, None) => return None,
        (Some(certificate), Some(key)) => {
            let read = Tls::read(certificate, key);
            let problems = read.map_err(|problems| {
                for problem in problems {
                    settings.problem(problem.to_string());
                }
            });
            return problems.ok();
        }
    };
    settings.problem(format!(
        "{missing}: it is missing; HTTPS takes --tls-cert and --tls-key, HTTP neither"
    ));
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn read(args: &[&str]) -> Result<Config, Problems> {
        Config::read(&Args::parse_from([&["warmq-router"], args].concat()))
    }

    #[test]
    fn the_public_url_of_an_unspecified_address_is_loopback() {
        let config = read(&["--listen", "0.0.0.0:8080", "--allow-anonymous"]).unwrap();
        assert!(config.allow_anonymous);
        assert_eq!(config.public_url(config.listen), "http://127.0.0.1:8080");
    }

    #[test]
    fn an_admin_key_is_never_printed_whether_or_not_it_is_one() {
        let secret = "s3cr3t".repeat(6);
        let args = ["warmq-router", "--admin-key", &format!("root:{secret}")];
        let args = Args::parse_from(args);
        let config = Config::read(&args).unwrap();
        assert_eq!(config.admin_key.as_ref().unwrap().0.key.id.as_str(), "root");
        assert!(!format!("{args:?} {config:?}").contains("s3cr3t"));
        let problems = read(&["--admin-key", "s3cr3t"]).unwrap_err().to_string();
        assert!(
            problems.contains("admin-key") && !problems.contains("s3cr3t"),
            "{problems}"
        );
        assert_eq!(read(&["--admin-key", ""]).unwrap().admin_key, None);
    }

    #[test]
    fn private_addresses_are_refused_unless_allowed() {
        let none = read(&[]).unwrap().fetch_allow;
        assert_eq!(none, Allowed::default());
        let some = read(&["--fetch-allow", "10.1.0.0/16,::1"]).unwrap();
        assert_eq!(some.fetch_allow.to_string(), "10.1.0.0/16,::1/128");
        let problems = read(&["--fetch-allow", "everything"]).unwrap_err();
        assert!(problems.to_string().contains("fetch-allow: 'everything'"));
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let problems =
            read(&["--listen", "here", "--roles", "cook", "--max-body", "big"]).unwrap_err();
        assert_eq!(problems.sentences().len(), 3, "{problems}");
    }

    #[test]
    fn a_certificate_takes_a_key_and_both_must_be_readable() {
        for (args, settings) in [
            (
                &["--tls-cert", "/no/such.pem"] as &[&str],
                &["tls-key"] as &[&str],
            ),
            (&["--tls-key", "/no/such.pem"], &["tls-cert"]),
            (
                &[
                    "--tls-cert",
                    "/no/such.pem",
                    "--tls-key",
                    "/no/such.pem",
                    "--max-connections",
                    "0",
                ],
                &["tls-cert", "tls-key", "max-connections"],
            ),
        ] {
            let problems = read(args).unwrap_err();
            assert_eq!(problems.sentences().len(), settings.len(), "{problems}");
            for (problem, setting) in problems.sentences().iter().zip(settings) {
                assert!(problem.starts_with(&format!("{setting}: ")), "{problem}");
            }
        }
    }

    #[test]
    fn an_address_that_is_none_is_answered_with_one_that_is() {
        for wrong in ["8080", ":8080", "localhost:8080"] {
            let problems = read(&["--listen", wrong]).unwrap_err().to_string();
            assert!(problems.contains("127.0.0.1:8080, or"), "{problems}");
        }
        for wrong in ["warmq.example", "https://h/?y", "https://h/#y", "ftp://h"] {
            let problems = read(&["--public-url", wrong]).unwrap_err().to_string();
            assert!(problems.contains("write https://host/path"), "{problems}");
        }
    }

    #[test]
    fn a_public_url_loses_its_last_slash() {
        let config = read(&["--public-url", "https://warmq.example/"]).unwrap();
        assert_eq!(config.public_url(config.listen), "https://warmq.example");
    }
}
