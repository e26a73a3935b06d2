//! Overflow queues: an owner whose jobs fill a lane's window does not hide the jobs of others.
//!
//! The dispatcher holds at most so many messages of a lane. Without this module, one API key's
//! backlog would fill that window, and another key's job behind it would wait unseen. Instead, what
//! exceeds an owner's share of the window moves on arrival: it is published to the overflow queue
//! of owner and lane and then acknowledged, so the lane always drains. The dispatcher consumes each
//! overflow queue as it does the lanes, with a small prefetch, and deletes it once it is empty.
//!
//! | module | content |
//! | --- | --- |
//! | `admission` | which deliveries move, and which queues have ended; pure |
//! | `slot` | counts a delivery until it is acknowledged |
//! | `queues` | declares, consumes and deletes the queues |
//!
//! Only policy `warm` moves jobs, and only between two or more keys. Every session consumes what
//! is left in the queues that Redis lists, whatever its policy.

mod admission;
mod queues;
mod slot;

pub(super) use queues::{OverflowDelivery, OverflowQueues};
pub(super) use slot::Slot;
