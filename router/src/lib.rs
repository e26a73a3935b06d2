//! The router: accepts jobs, places each on a runner, returns results.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`config`] | flags, environment, `warmq.toml` |
//! | [`access`] | authorization: keys and their rights |
//! | [`routing_config`], [`reload`] | the apps and routes of `warmq.toml`, reloadable |
//! | [`apps`] | existing apps, their input schemas and load |
//! | [`submit`] | the single entry for jobs, by HTTP and AMQP |
//! | [`api`] | HTTP: fal's protocol, `/v1`, `/files`, `/storage`, `/metrics` |
//! | [`tls`] | the certificate for HTTPS |
//! | [`flow`] | submissions of several steps |
//! | [`dispatcher`] | one leader per app: reads the fleet, asks the policy, claims, sends |
//! | [`files`] | capability links to files, and uploads |
//! | [`completions`] | wakes requests that wait for a job's end |
//! | [`finalizer`] | jobs that end without a result: cancelled, expired |
//! | [`dead_letters`] | dead letters: list, redrive, drop |
//! | [`memory`], [`large_json`] | memory limits of request bodies |
//! | [`deferred_results`] | stores results that workers could not store |
//! | [`unroutable`] | republishes jobs that found no queue |
//! | [`readiness`] | checks of servers and storage |
//! | [`reply`] | replies to AMQP submitters that gave `reply_to` |
//! | [`webhook`] | webhooks to HTTP submitters that gave a URL |
//! | [`metrics`] | metrics for Prometheus |
//! | [`queue_consumer`] | consumes a durable queue, reconnecting as needed |
//! | [`session_error`] | errors after which a component reconnects |
//!
//! Path of a job: `api` or `submit::amqp` → `submit` → lane → `dispatcher` → claim → runner.

pub mod access;
pub mod api;
pub mod apps;
pub mod completions;
pub mod config;
pub mod dead_letters;
pub mod deferred_results;
pub mod dispatcher;
pub mod files;
pub mod finalizer;
pub mod flow;
pub mod large_json;
pub mod memory;
pub mod metrics;
pub mod queue_consumer;
pub mod readiness;
pub mod reload;
pub mod reply;
pub mod routing_config;
pub mod session_error;
pub mod submit;
pub mod tls;
pub mod unroutable;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use warmq_broker::{DeclareError, Publisher, Topology};
use warmq_fetch::Fetcher;
use warmq_objects::Artifacts;
use warmq_process::clock;
use warmq_process::retry;
use warmq_store::{Secret, Store};

use crate::access::Keyring;
use crate::apps::AppDirectory;
use crate::completions::CompletionListener;
use crate::config::{Args, Config, Role};
use crate::dead_letters::DeadLetters;
use crate::files::{Links, Uploads};
use crate::finalizer::Finalizer;
use crate::large_json::LargeJson;
use crate::metrics::Metrics;
use crate::readiness::{BrokerLimits, Readiness};
use crate::reload::{Hangups, Reload};
use crate::submit::Submitter;

/// Runs the configured roles until `shutdown`. `args`: where `config` came from, to read it again.
///
/// # Errors
/// The storage or the listening address is unavailable, a server refuses, or a role ended by
/// itself. Unreachable servers are awaited.
pub async fn run(config: Config, args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let hangups = Hangups::listen()?;
    let servers = &config.servers;
    let connect = || Store::connect(&servers.redis_url, servers.namespace.clone());
    let connected = retry::until_available(&shutdown, warmq_store::Error::is_final, connect);
    let Some(store) = connected.await? else {
        return Ok(());
    };
    // Requests have a connection of their own, separate from dispatchers and their long commands.
    let connected = retry::until_available(&shutdown, warmq_store::Error::is_final, connect);
    let Some(front) = connected.await? else {
        return Ok(());
    };
    let keys = Keyring::open(front.clone(), config.admin_key.clone()).await?;
    access::may_listen(config.listen, keys.require_keys(), config.allow_anonymous)?;
    let topology = Topology::new(servers.namespace.clone(), servers.queue_type);
    if let Ok(now_ms) = store.now_ms().await {
        clock::set_shared(now_ms);
    }
    let publisher = Publisher::new(servers.amqp_url.clone(), "warmq-router publish");
    let declared = retry::until_available(&shutdown, DeclareError::is_final, || {
        declare(&topology, &publisher)
    });
    if declared.await?.is_none() {
        return Ok(());
    }
    let artifacts = Artifacts::open(&servers.storage)?;
    let dead = DeadLetters::new(
        servers.amqp_url.clone(),
        topology.clone(),
        publisher.clone(),
        store.clone(),
    );
    let apps = AppDirectory::new(store.clone(), config.declared.clone());
    let reload = Reload::new(args, apps.clone());
    let finalizer = Finalizer::new(store.clone(), publisher.clone(), topology.clone());

    // Bound before anything starts: replies, too, name the address that is really served.
    let limits = api::Limits::new(config.max_connections);
    let server = api::Server::bind(config.listen, config.tls.clone(), limits).await?;
    let public_url: Arc<str> = config.public_url(server.address()?).into();
    let secret = retry::until_available(&shutdown, warmq_store::Error::is_final, || {
        store.secrets().secret(Secret::Links, rand::random())
    });
    let Some(secret) = secret.await? else {
        return Ok(());
    };
    let links = Links::new(public_url.clone(), secret);
    let fetcher = Fetcher::new(config.fetch_allow.clone())?;
    let large = LargeJson::default();
    let submitter = Submitter::new(
        front.clone(),
        publisher.clone(),
        topology.clone(),
        apps.clone(),
        submit::Options {
            artifacts: artifacts.clone(),
            links: links.clone(),
            fetcher: fetcher.clone(),
            max_input_bytes: config.max_body_bytes,
            large: large.clone(),
        },
    );
    let metrics = Metrics::new()?;
    let ended = CompletionListener::default();

    let limits = BrokerLimits::default();
    let readiness = Readiness::new(
        store.clone(),
        publisher.clone(),
        artifacts.clone(),
        limits.clone(),
    );
    let mut parts = JoinSet::new();
    let api = api::Api {
        finalizer: Finalizer::new(front.clone(), publisher.clone(), topology.clone()),
        store: front.clone(),
        keys: keys.clone(),
        apps: apps.clone(),
        submitter: submitter.clone(),
        reload: reload.clone(),
        ended: ended.clone(),
        dead,
        readiness: readiness.clone(),
        uploads: Uploads::new(artifacts.clone(), config.max_upload_bytes),
        artifacts: artifacts.clone(),
        links: links.clone(),
        hosts: api::Hosts::new(&public_url, config.listen.ip().is_loopback()),
        public_url,
        max_body_bytes: config.max_body_bytes,
        metrics: metrics.clone(),
        has_api_role: config.roles.contains(&Role::Api),
        streams: api::Streams::default(),
    };
    // What does not work is in the log from the start, before any request.
    tokio::spawn(async move { readiness.report().await });
    parts.spawn(server.run(api, config.drain_timeout, shutdown.clone()));
    parts.spawn(keys.run(shutdown.clone()));
    parts.spawn(follow_clock(front, shutdown.clone()));
    parts.spawn(metrics.clone().run(shutdown.clone()));
    parts.spawn(reload.on_hangup(hangups, shutdown.clone()));
    if config.roles.contains(&Role::Api) {
        let submissions = submit::amqp::AmqpSubmissions::new(
            servers.amqp_url.clone(),
            topology.clone(),
            publisher.clone(),
            submitter.clone(),
        );
        parts.spawn(submissions.run(shutdown.clone()));
        let follower = completions::Follower {
            amqp_url: servers.amqp_url.clone(),
            topology: topology.clone(),
            ended,
        };
        parts.spawn(follower.run(shutdown.clone()));
    }
    if config.roles.contains(&Role::Flow) {
        let flows = flow::Flows::new(
            store.clone(),
            servers.amqp_url.clone(),
            topology.clone(),
            submitter,
            finalizer.clone(),
            apps.clone(),
            metrics.clone(),
        );
        parts.spawn(flows.clone().follow_events(shutdown.clone()));
        parts.spawn(flows.run_due_flows(shutdown.clone()));
    }
    if config.roles.contains(&Role::Dispatch) {
        let unroutable = unroutable::Unroutable {
            amqp_url: servers.amqp_url.clone(),
            topology: topology.clone(),
            publisher: publisher.clone(),
        };
        parts.spawn(unroutable.run(shutdown.clone()));
        let late_ends = deferred_results::DeferredResults {
            store: store.clone(),
            amqp_url: servers.amqp_url.clone(),
            topology: topology.clone(),
            finalizer: finalizer.clone(),
        };
        parts.spawn(late_ends.run(shutdown.clone()));
        let dispatchers = dispatcher::Dispatchers {
            store: store.clone(),
            connections: dispatcher::Connections::new(servers.amqp_url.clone()),
            topology: topology.clone(),
            publisher: publisher.clone(),
            finalizer,
            apps,
            reconcile_after: config.reconcile_after,
            forget_apps_after: config.forget_apps_after,
            limits,
            longest_held: servers.consumer_timeout / 3,
            metrics: metrics.clone(),
        };
        parts.spawn(dispatchers.run(shutdown.clone()));
    }
    if config.roles.contains(&Role::Reply) {
        let replies = reply::Replies::new(
            store.clone(),
            servers.amqp_url.clone(),
            topology.clone(),
            links.clone(),
            artifacts,
        );
        parts.spawn(replies.run(shutdown.clone()));
    }
    if config.roles.contains(&Role::Webhook) {
        let webhooks = webhook::Webhooks {
            store,
            amqp_url: servers.amqp_url.clone(),
            topology,
            publisher,
            fetcher,
            links,
            metrics,
        };
        parts.spawn(webhooks.run(shutdown.clone()));
    }
    while let Some(ended) = parts.join_next().await {
        ended.context("a part of the router panicked")??;
        anyhow::ensure!(
            shutdown.is_cancelled(),
            "a part of the router ended by itself"
        );
    }
    Ok(())
}

/// Declares the exchanges and queues of every router.
async fn declare(topology: &Topology, publisher: &Publisher) -> Result<(), DeclareError> {
    let channel = publisher.channel().await?;
    Ok(topology.declare_base(&channel).await?)
}

/// Interval of reads of Redis' clock: short enough that a broken connection is reopened before a
/// request needs it.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// Follows Redis' clock until `shutdown`.
async fn follow_clock(store: Store, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(CLOCK_INTERVAL) => {}
        }
        match store.now_ms().await {
            Ok(now_ms) => clock::set_shared(now_ms),
            Err(error) => tracing::debug!(%error, "the clock of Redis cannot be read"),
        }
    }
}
