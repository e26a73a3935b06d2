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
//! | [`files`] | signed URLs of files, and uploads |
//! | `file_cleanup` | deletes files of expired jobs and old uploads |
//! | [`completions`] | wakes requests that wait for a job's end |
//! | [`finalizer`] | jobs that end without a result: cancelled, expired |
//! | [`dead_letters`] | dead letters: list, redrive, drop |
//! | [`memory`], [`large_json`] | memory limits of request bodies |
//! | [`deferred_results`] | stores results that workers could not store |
//! | `job_list_trimmer` | removes expired jobs from the list of jobs |
//! | [`unroutable`] | republishes jobs that found no queue |
//! | [`readiness`] | checks of servers and storage |
//! | [`amqp_replies`] | replies to AMQP submitters that gave `reply_to` |
//! | [`webhook`] | webhooks to HTTP submitters that gave a URL |
//! | `overview` | runners and queues at present, for those who watch |
//! | [`metrics`] | metrics for Prometheus |
//! | [`reconnecting_consumer`] | consumes a durable queue, reconnecting as needed |
//! | [`session_error`] | errors after which a component reconnects |
//!
//! [`run`] starts everything: `startup` connects and builds the parts that `roles` spawn.
//!
//! Path of a job: `api` or `submit::amqp` → `submit` → lane → `dispatcher` → claim → runner.

pub mod access;
pub mod amqp_replies;
pub mod api;
pub mod apps;
pub mod completions;
pub mod config;
pub mod dead_letters;
pub mod deferred_results;
pub mod dispatcher;
mod file_cleanup;
pub mod files;
pub mod finalizer;
pub mod flow;
pub mod large_json;
pub mod memory;
pub mod metrics;
pub mod readiness;
pub mod reconnecting_consumer;
pub mod reload;
pub mod routing_config;
pub mod session_error;
pub mod submit;
pub mod tls;
pub mod unroutable;
pub mod webhook;

mod job_list_trimmer;
mod overview;
mod roles;
mod startup;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use warmq_store::Store;
use warmq_traces::Traces;

use crate::config::{Args, Config, Role};
use crate::reload::Hangups;
use crate::roles::Tasks;
use crate::startup::{Parts, Servers, Stopped};

/// Runs the configured roles until `shutdown`. `args`: where `config` came from, to read it again.
///
/// # Errors
/// The storage or the listening address is unavailable, a server refuses, or a role ended by
/// itself. Unreachable servers are awaited.
pub async fn run(config: Config, args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (mut tasks, [store, front], traces) = match start(config, args, &shutdown).await {
        Err(error) if error.is::<Stopped>() => return Ok(()),
        started => started?,
    };
    while let Some(ended) = tasks.join_next().await {
        ended.context("a part of the router panicked")??;
        anyhow::ensure!(
            shutdown.is_cancelled(),
            "a part of the router ended by itself"
        );
    }
    tokio::join!(
        store.outbox().flush(),
        front.outbox().flush(),
        traces.shut_down()
    );
    Ok(())
}

/// Starts the roles. Returns their tasks, the handles to Redis, and the traces.
async fn start(
    config: Config,
    args: Args,
    shutdown: &CancellationToken,
) -> anyhow::Result<(Tasks, [Store; 2], Traces)> {
    let hangups = Hangups::listen()?;
    let servers = Servers::connect(&config, shutdown).await?;
    // Bound before any part starts: replies contain the address that is really served.
    let limits = api::ServerLimits::new(config.max_connections);
    let server = api::Server::bind(config.listen, config.tls.clone(), limits).await?;
    let public_url = config.public_url(server.address()?).into();
    let parts = Parts::build(config, args, servers, public_url, shutdown.clone()).await?;
    let mut tasks = Tasks::new();
    roles::spawn_server(&parts, server, &mut tasks);
    roles::spawn_common(&parts, hangups, &mut tasks);
    for role in &parts.config.roles {
        match role {
            Role::Api => roles::spawn_api(&parts, &mut tasks),
            Role::Dispatch => roles::spawn_dispatch(&parts, &mut tasks),
            Role::Flow => roles::spawn_flow(&parts, &mut tasks),
            Role::Reply => roles::spawn_reply(&parts, &mut tasks),
            Role::Webhook => roles::spawn_webhook(&parts, &mut tasks),
        }
    }
    let Servers { store, front, .. } = parts.servers;
    Ok((tasks, [store, front], parts.traces))
}
