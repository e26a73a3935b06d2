//! Spawns the tasks of each role.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use warmq_broker::Connections;
use warmq_process::clock;
use warmq_store::Store;

use crate::amqp_replies::Replies;
use crate::api::{self, ApiState};
use crate::completions::Follower;
use crate::config::Role;
use crate::dead_letters::DeadLetters;
use crate::deferred_results::DeferredResults;
use crate::dispatcher::{CHANNELS_PER_SESSION, Dispatchers};
use crate::file_cleanup::FileCleanup;
use crate::files::Uploads;
use crate::flow::Flows;
use crate::job_list_trimmer;
use crate::overview::Overview;
use crate::reload::Hangups;
use crate::startup::Parts;
use crate::submit::amqp::AmqpSubmissions;
use crate::unroutable::Unroutable;
use crate::webhook::Webhooks;

/// The tasks of a router.
pub(crate) type Tasks = JoinSet<anyhow::Result<()>>;

/// Interval of reads of Redis' clock: short enough that a broken connection is reopened before a
/// request needs it.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// Serves HTTP: with role `api` all calls, otherwise health and metrics.
pub(crate) fn spawn_server(parts: &Parts, server: api::Server, tasks: &mut Tasks) {
    let Parts {
        config, servers, ..
    } = parts;
    let api = ApiState {
        finalizer: servers.finalizer(&servers.front),
        store: servers.front.clone(),
        keys: servers.keys.clone(),
        apps: parts.apps.clone(),
        submitter: parts.submitter.clone(),
        reload: parts.reload.clone(),
        ended: parts.completions.clone(),
        dead: DeadLetters::new(
            config.servers.amqp_url.clone(),
            servers.topology.clone(),
            servers.publisher.clone(),
            servers.store.clone(),
        ),
        readiness: parts.readiness.clone(),
        uploads: Uploads::new(servers.storage.clone(), config.max_upload_bytes),
        storage: servers.storage.clone(),
        signed_urls: parts.signed_urls.clone(),
        hosts: api::Hosts::new(&parts.public_url, config.listen.ip().is_loopback()),
        public_url: parts.public_url.clone(),
        max_body_bytes: config.max_body_bytes,
        metrics: parts.metrics.clone(),
        has_api_role: config.roles.contains(&Role::Api),
        streams: api::Streams::default(),
        overview: Overview::new(servers.front.clone(), parts.apps.clone()),
    };
    tasks.spawn(server.run(Arc::new(api), config.drain_timeout, parts.shutdown.clone()));
}

/// Spawns what every router runs, whatever its roles.
pub(crate) fn spawn_common(parts: &Parts, hangups: Hangups, tasks: &mut Tasks) {
    // Failing checks are logged from the start, before any request.
    let readiness = parts.readiness.clone();
    tokio::spawn(async move { readiness.report().await });
    tasks.spawn(parts.servers.keys.clone().run(parts.shutdown.clone()));
    tasks.spawn(follow_clock(
        parts.servers.front.clone(),
        parts.shutdown.clone(),
    ));
    tasks.spawn(parts.metrics.clone().run(parts.shutdown.clone()));
    tasks.spawn(
        parts
            .reload
            .clone()
            .on_hangup(hangups, parts.shutdown.clone()),
    );
}

/// Spawns what the calls of role `api` need, and submissions by AMQP.
pub(crate) fn spawn_api(parts: &Parts, tasks: &mut Tasks) {
    let submissions = AmqpSubmissions::new(
        parts.config.servers.amqp_url.clone(),
        parts.servers.topology.clone(),
        parts.servers.publisher.clone(),
        parts.submitter.clone(),
    );
    tasks.spawn(submissions.run(parts.shutdown.clone()));
    let follower = Follower {
        store: parts.servers.store.clone(),
        ended: parts.completions.clone(),
    };
    tasks.spawn(follower.run(parts.shutdown.clone()));
}

pub(crate) fn spawn_flow(parts: &Parts, tasks: &mut Tasks) {
    let flows = Flows::new(
        parts.servers.store.clone(),
        parts.config.servers.amqp_url.clone(),
        parts.servers.topology.clone(),
        parts.submitter.clone(),
        parts.finalizer.clone(),
        parts.apps.clone(),
        parts.metrics.clone(),
    );
    tasks.spawn(flows.clone().follow_events(parts.shutdown.clone()));
    tasks.spawn(flows.run_due_flows(parts.shutdown.clone()));
}

/// Spawns the dispatchers, the repair of messages and results that took a detour, and the cleanup
/// of files.
pub(crate) fn spawn_dispatch(parts: &Parts, tasks: &mut Tasks) {
    let Parts {
        config, servers, ..
    } = parts;
    let unroutable = Unroutable {
        amqp_url: config.servers.amqp_url.clone(),
        topology: servers.topology.clone(),
        publisher: servers.publisher.clone(),
    };
    tasks.spawn(unroutable.run(parts.shutdown.clone()));
    let deferred_results = DeferredResults {
        store: servers.store.clone(),
        amqp_url: config.servers.amqp_url.clone(),
        topology: servers.topology.clone(),
        finalizer: parts.finalizer.clone(),
    };
    tasks.spawn(deferred_results.run(parts.shutdown.clone()));
    let cleanup = FileCleanup {
        store: servers.store.clone(),
        storage: servers.storage.clone(),
        apps: parts.apps.clone(),
        keep_uploads: config.keep_uploads,
        interval: config.cleanup_interval,
    };
    tasks.spawn(cleanup.run(parts.shutdown.clone()));
    let dispatchers = Dispatchers {
        store: servers.store.clone(),
        connections: Connections::new(
            config.servers.amqp_url.clone(),
            "warmq-router dispatch",
            servers.topology.clone(),
            CHANNELS_PER_SESSION,
        ),
        topology: servers.topology.clone(),
        publisher: servers.publisher.clone(),
        finalizer: parts.finalizer.clone(),
        keys: servers.keys.clone(),
        apps: parts.apps.clone(),
        reconcile_after: config.reconcile_after,
        forget_apps_after: config.forget_apps_after,
        scale_hook: config.scale_hook.clone(),
        limits: parts.limits.clone(),
        longest_held: config.servers.consumer_timeout / 3,
        metrics: parts.metrics.clone(),
        traces: parts.traces.clone(),
    };
    tasks.spawn(dispatchers.run(parts.shutdown.clone()));
    tasks.spawn(job_list_trimmer::run(
        servers.store.clone(),
        parts.shutdown.clone(),
    ));
}

pub(crate) fn spawn_reply(parts: &Parts, tasks: &mut Tasks) {
    let replies = Replies::new(
        parts.servers.store.clone(),
        parts.config.servers.amqp_url.clone(),
        parts.servers.topology.clone(),
        parts.signed_urls.clone(),
        parts.servers.storage.clone(),
    );
    tasks.spawn(replies.run(parts.shutdown.clone()));
}

pub(crate) fn spawn_webhook(parts: &Parts, tasks: &mut Tasks) {
    let webhooks = Webhooks {
        store: parts.servers.store.clone(),
        amqp_url: parts.config.servers.amqp_url.clone(),
        topology: parts.servers.topology.clone(),
        publisher: parts.servers.publisher.clone(),
        fetcher: parts.fetcher.clone(),
        signed_urls: parts.signed_urls.clone(),
        metrics: parts.metrics.clone(),
    };
    tasks.spawn(webhooks.run(parts.shutdown.clone()));
}

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
