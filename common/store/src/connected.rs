//! What the handles of one store share.

use redis::aio::ConnectionManager;
use warmq_types::server_url::ServerUrl;

use super::keys::Keys;
use super::outbox::Removals;
use super::scripts::Scripts;
use super::subscriptions::Subscriptions;

/// A connection to one namespace of one Redis.
pub struct Connected {
    pub(super) connection: ConnectionManager,
    pub(super) url: ServerUrl,
    pub(super) subscriptions: Subscriptions,
    pub(super) removals: Removals,
    pub(super) keys: Keys,
    pub(super) scripts: Scripts,
}
