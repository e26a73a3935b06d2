//! The type of RabbitMQ's durable queues.

use serde::{Deserialize, Serialize};

/// Type of the durable queues: one setting, equal in every process of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueType {
    /// For a single node.
    #[default]
    Classic,
    /// For a cluster.
    Quorum,
}

impl std::str::FromStr for QueueType {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "classic" => Ok(Self::Classic),
            "quorum" => Ok(Self::Quorum),
            other => Err(format!("'{other}' is not 'classic' or 'quorum'")),
        }
    }
}

impl std::fmt::Display for QueueType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        })
    }
}
