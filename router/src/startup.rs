//! Connects to the servers, and builds the parts that the roles share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use warmq_broker::{DeclareError, Publisher, Topology};
use warmq_fetch::Fetcher;
use warmq_objects::ObjectStorage;
use warmq_process::{clock, retry};
use warmq_store::{Secret, Store};
use warmq_traces::Traces;
use warmq_types::protocol::Protocol;

use crate::access::{self, Keyring};
use crate::apps::AppDirectory;
use crate::completions::CompletionListener;
use crate::config::{Args, Config};
use crate::files::SignedUrls;
use crate::finalizer::Finalizer;
use crate::large_json::LargeJson;
use crate::metrics::Metrics;
use crate::readiness::{BrokerLimits, Readiness};
use crate::reload::Reload;
use crate::submit::{self, Submitter};

/// The shutdown came before all servers were available.
#[derive(Debug, thiserror::Error)]
#[error("stopped while waiting for a server")]
pub(crate) struct Stopped;

/// Handles on the servers.
pub(crate) struct Servers {
    pub(crate) store: Store,
    /// Redis for requests, on a connection separate from the dispatchers' long commands.
    pub(crate) front: Store,
    pub(crate) keys: Keyring,
    pub(crate) topology: Topology,
    pub(crate) publisher: Publisher,
    pub(crate) storage: ObjectStorage,
}

impl Servers {
    /// Waits for Redis and RabbitMQ, and declares what every router needs.
    ///
    /// # Errors
    /// [`Stopped`], a server refuses, running routers or workers cannot work with this build, or
    /// the listen address would be open to strangers.
    pub(crate) async fn connect(
        config: &Config,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let servers = &config.servers;
        let connect = || Store::connect(&servers.redis_url, servers.namespace.clone());
        let store = available(shutdown, warmq_store::Error::is_final, connect).await?;
        available(shutdown, warmq_store::Error::is_final, || {
            store.protocols().check(Protocol::OURS)
        })
        .await?;
        let front = available(shutdown, warmq_store::Error::is_final, connect).await?;
        let keys = Keyring::open(front.clone(), config.admin_key.clone()).await?;
        access::may_listen(config.listen, keys.require_keys(), config.allow_anonymous)?;
        let renewing = store.clone();
        tokio::spawn(async move { renewing.protocols().renew(Protocol::OURS).await });
        if let Ok(now_ms) = store.now_ms().await {
            clock::set_shared(now_ms);
        }
        let topology = Topology::new(servers.namespace.clone(), servers.queue_type);
        let publisher = Publisher::new(servers.amqp_url.clone(), "warmq-router publish");
        available(shutdown, DeclareError::is_final, || {
            declare(&topology, &publisher)
        })
        .await?;
        Ok(Self {
            store,
            front,
            keys,
            topology,
            publisher,
            storage: ObjectStorage::open(&servers.storage)?,
        })
    }

    /// Returns a finalizer on the given connection to Redis.
    pub(crate) fn finalizer(&self, store: &Store) -> Finalizer {
        Finalizer::new(store.clone(), self.publisher.clone(), self.topology.clone())
    }
}

/// Parts that several roles share.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) servers: Servers,
    pub(crate) apps: AppDirectory,
    pub(crate) reload: Reload,
    pub(crate) finalizer: Finalizer,
    pub(crate) submitter: Submitter,
    /// Prefix of every URL in responses.
    pub(crate) public_url: Arc<str>,
    pub(crate) signed_urls: SignedUrls,
    pub(crate) fetcher: Fetcher,
    pub(crate) completions: CompletionListener,
    pub(crate) limits: BrokerLimits,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Traces,
    pub(crate) shutdown: CancellationToken,
}

impl Parts {
    /// Builds the parts of a router that is served at `public_url`.
    ///
    /// # Errors
    /// [`Stopped`], or Redis refuses.
    pub(crate) async fn build(
        config: Config,
        args: Args,
        servers: Servers,
        public_url: Arc<str>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let secret = available(&shutdown, warmq_store::Error::is_final, || {
            servers
                .store
                .secrets()
                .secret(Secret::SignedUrls, rand::random())
        });
        let signed_urls = SignedUrls::new(public_url.clone(), secret.await?);
        let fetcher = Fetcher::new(config.fetch_allow.clone())?;
        let collector = config.servers.otlp_endpoint.as_ref();
        let traces = Traces::to(collector, "warmq-router", public_url.to_string())?;
        let apps = AppDirectory::new(servers.store.clone(), config.declared.clone());
        let submitter = Submitter::new(
            servers.front.clone(),
            servers.publisher.clone(),
            servers.topology.clone(),
            apps.clone(),
            submit::Options {
                storage: servers.storage.clone(),
                signed_urls: signed_urls.clone(),
                fetcher: fetcher.clone(),
                max_input_bytes: config.max_body_bytes,
                large: LargeJson::default(),
                traces: traces.clone(),
            },
        );
        let limits = BrokerLimits::default();
        Ok(Self {
            reload: Reload::new(args, apps.clone()),
            finalizer: servers.finalizer(&servers.store),
            readiness: Readiness::new(
                servers.store.clone(),
                servers.publisher.clone(),
                servers.storage.clone(),
                limits.clone(),
            ),
            completions: CompletionListener::default(),
            metrics: Metrics::new()?,
            traces,
            config,
            servers,
            apps,
            submitter,
            public_url,
            signed_urls,
            fetcher,
            limits,
            shutdown,
        })
    }
}

/// Declares the exchanges and queues of every router.
async fn declare(topology: &Topology, publisher: &Publisher) -> Result<(), DeclareError> {
    let channel = publisher.channel().await?;
    Ok(topology.declare_base(&channel).await?)
}

/// Waits until `operation` succeeds.
///
/// # Errors
/// [`Stopped`], or the first error for which `is_final` holds.
async fn available<T, E, F>(
    shutdown: &CancellationToken,
    is_final: impl Fn(&E) -> bool,
    operation: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
    F: Future<Output = Result<T, E>>,
{
    let connected = retry::until_available(shutdown, is_final, operation).await?;
    connected.ok_or(Stopped.into())
}
