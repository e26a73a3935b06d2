//! RabbitMQ: connections, topology, confirmed publishes and consumers.

pub mod acknowledgement;
pub mod advice;
pub mod connection;
pub mod connections;
pub mod consumer;
pub mod dead_letter;
pub mod publisher;
pub mod topology;

pub use connection::{Error, Refusal, connect, connect_for_jobs};
pub use connections::Connections;
pub use dead_letter::DeadLetter;
pub use publisher::{Message, PublishError, Publisher, has_returned};
pub use topology::{DeclareError, Topology};
