//! Settings of every process: RabbitMQ, Redis, storage, namespace.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use warmq_types::ids::Namespace;
use warmq_types::queue_type::QueueType;
use warmq_types::server_url::ServerUrl;

use super::Settings;

/// Flags of every process, as text: [`Servers::read`] parses them.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServerArgs {
    /// Configuration file [default: warmq.toml, if it is there]
    #[arg(long, env = "WARMQ_CONFIG", value_name = "FILE", value_parser = clap::value_parser!(OsString))]
    pub config: Option<OsString>,
    /// Prefix of every queue, exchange and key [default: warmq]
    #[arg(long, env = "WARMQ_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// RabbitMQ [default: amqp://guest:guest@127.0.0.1:5672/%2f]
    #[arg(
        long,
        env = "WARMQ_AMQP_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub amqp_url: Option<String>,
    /// Redis [default: redis://127.0.0.1:6379/0]
    #[arg(
        long,
        env = "WARMQ_REDIS_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub redis_url: Option<String>,
    /// Object storage: file:///folder or s3://bucket/prefix [default: file:// with ./out/files]
    #[arg(
        long,
        env = "WARMQ_STORAGE",
        value_name = "URL",
        hide_env_values = true
    )]
    pub storage: Option<String>,
    /// Type of the durable queues, equal in all processes of a namespace: classic, or quorum (for
    /// clusters) [default: classic]
    #[arg(long, env = "WARMQ_QUEUE_TYPE", value_name = "TYPE")]
    pub queue_type: Option<String>,
    /// RabbitMQ's consumer_timeout, after which it requeues unacknowledged messages [default: 30m]
    #[arg(long, env = "WARMQ_CONSUMER_TIMEOUT", value_name = "TIME")]
    pub consumer_timeout: Option<String>,
    /// Collector of OpenTelemetry that receives traces of jobs by OTLP over HTTP, usually
    /// http://host:4318 [default: none]
    #[arg(
        long,
        env = "WARMQ_OTLP_ENDPOINT",
        value_name = "URL",
        hide_env_values = true
    )]
    pub otlp_endpoint: Option<String>,
}

/// The servers of one namespace.
#[derive(Debug, Clone)]
pub struct Servers {
    /// Prefix of every queue, exchange and key.
    pub namespace: Namespace,
    /// RabbitMQ.
    pub amqp_url: ServerUrl,
    /// Redis.
    pub redis_url: ServerUrl,
    /// Object storage: `file://…` or `s3://…`.
    pub storage: ServerUrl,
    /// Type of the durable queues.
    pub queue_type: QueueType,
    /// RabbitMQ's `consumer_timeout`: it then requeues an unacknowledged message and closes its
    /// channel.
    pub consumer_timeout: Duration,
    /// Collector that receives traces of jobs.
    pub otlp_endpoint: Option<ServerUrl>,
}

impl ServerArgs {
    /// Returns the named configuration file, if any. An empty variable names none.
    pub fn config_file(&self) -> Option<&Path> {
        let named = self.config.as_deref().filter(|file| !file.is_empty());
        named.map(Path::new)
    }
}

/// Example of a RabbitMQ URL.
const AMQP_EXAMPLE: &str =
    "amqp://user:password@host:5672/%2f (in a password @ is written %40, / %2f, # %23)";

/// Example of a Redis URL.
const REDIS_EXAMPLE: &str =
    "redis://:password@host:6379/0 (in a password @ is written %40, / %2f, # %23)";

/// Example of a storage URL.
const STORAGE_EXAMPLE: &str = "file:///folder or s3://bucket/prefix";

impl Servers {
    /// Parses the settings of `args`; problems are collected in `settings`.
    pub fn read(settings: &mut Settings, args: &ServerArgs) -> Option<Self> {
        let folder = std::env::current_dir()
            .unwrap_or_default()
            .join("out/files");
        let storage = format!("file://{}", folder.display());
        let namespace = settings.take("namespace", args.namespace.as_deref(), "warmq");
        let amqp_url = settings.take_like::<ServerUrl>(
            "amqp_url",
            args.amqp_url.as_deref(),
            "amqp://guest:guest@127.0.0.1:5672/%2f",
            AMQP_EXAMPLE,
        );
        let redis_url = settings.take_like::<ServerUrl>(
            "redis_url",
            args.redis_url.as_deref(),
            "redis://127.0.0.1:6379/0",
            REDIS_EXAMPLE,
        );
        let storage = settings.take_like::<ServerUrl>(
            "storage",
            args.storage.as_deref(),
            &storage,
            STORAGE_EXAMPLE,
        );
        let queue_type = settings.take("queue_type", args.queue_type.as_deref(), "classic");
        let consumer_timeout =
            settings.take_positive("consumer_timeout", args.consumer_timeout.as_deref(), "30m");
        let otlp_endpoint =
            settings.take_optional::<ServerUrl>("otlp_endpoint", args.otlp_endpoint.as_deref());
        for (name, url, schemes) in [
            ("amqp-url", &amqp_url, ["amqp", "amqps"]),
            ("redis-url", &redis_url, ["redis", "rediss"]),
            ("storage", &storage, ["file", "s3"]),
            ("otlp-endpoint", &otlp_endpoint, ["http", "https"]),
        ] {
            if let Some(url) = url
                && !schemes.contains(&url.scheme())
            {
                let [one, other] = schemes;
                settings.problem(format!(
                    "{name}: {url} must begin with {one}:// or {other}://"
                ));
            }
        }
        if let Some(url) = &otlp_endpoint
            && url.as_url().password().is_some()
        {
            settings.problem(format!(
                "otlp-endpoint: {url} must not contain a password: set OTEL_EXPORTER_OTLP_HEADERS"
            ));
        }
        Some(Self {
            namespace: namespace?,
            amqp_url: amqp_url?,
            redis_url: redis_url?,
            storage: storage?,
            queue_type: queue_type?,
            consumer_timeout: consumer_timeout?.duration(),
            otlp_endpoint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_scheme_is_a_problem_of_its_setting() {
        let mut settings = Settings::from_toml("", "warmq.toml");
        let args = ServerArgs {
            amqp_url: Some("http://127.0.0.1".into()),
            redis_url: Some("nonsense".into()),
            otlp_endpoint: Some("grpc://127.0.0.1:4317".into()),
            ..ServerArgs::default()
        };
        let servers = Servers::read(&mut settings, &args);
        let problems = settings.finish(servers).unwrap_err();
        assert_eq!(problems.sentences().len(), 3, "{problems}");
    }

    #[test]
    fn a_password_for_the_collector_belongs_in_a_header() {
        let mut settings = Settings::from_toml("", "warmq.toml");
        let args = ServerArgs {
            otlp_endpoint: Some("https://user:hunter2@collector:4318".into()),
            ..ServerArgs::default()
        };
        let servers = Servers::read(&mut settings, &args);
        let problems = settings.finish(servers).unwrap_err().to_string();
        assert!(
            problems.contains("OTEL_EXPORTER_OTLP_HEADERS"),
            "{problems}"
        );
        assert!(!problems.contains("hunter2"), "{problems}");
    }
}
