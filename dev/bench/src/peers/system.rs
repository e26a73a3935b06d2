//! The compared systems.

use serde::Serialize;

/// A way to run jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// warmq, jobs submitted by HTTP.
    WarmqHttp,
    /// warmq, jobs submitted by AMQP, results by AMQP reply.
    WarmqAmqp,
    /// Celery.
    Celery,
    /// Dramatiq.
    Dramatiq,
    /// RQ.
    Rq,
    /// BullMQ.
    BullMq,
    /// Three messages and the writes to Redis, without a queue's logic.
    Bare,
}

impl System {
    /// All systems, in the order of the tables.
    pub const ALL: [Self; 7] = [
        Self::WarmqHttp,
        Self::WarmqAmqp,
        Self::Celery,
        Self::Dramatiq,
        Self::Rq,
        Self::BullMq,
        Self::Bare,
    ];

    /// Returns the name on the command line and of folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::WarmqHttp => "warmq-http",
            Self::WarmqAmqp => "warmq-amqp",
            Self::Celery => "celery",
            Self::Dramatiq => "dramatiq",
            Self::Rq => "rq",
            Self::BullMq => "bullmq",
            Self::Bare => "bare",
        }
    }

    /// Returns the name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::WarmqHttp => "warmq, HTTP",
            Self::WarmqAmqp => "warmq, AMQP",
            Self::Celery => "Celery",
            Self::Dramatiq => "Dramatiq",
            Self::Rq => "RQ",
            Self::BullMq => "BullMQ",
            Self::Bare => "bare transport",
        }
    }

    /// Returns the systems whose names begin with one of `prefixes`; all without any.
    pub fn select(prefixes: &[String]) -> Vec<Self> {
        let is_selected = |system: &Self| {
            let mut prefixes = prefixes.iter();
            prefixes.len() == 0 || prefixes.any(|prefix| system.name().starts_with(prefix))
        };
        Self::ALL.into_iter().filter(is_selected).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_selected_by_the_begin_of_their_names() {
        let select =
            |names: &[&str]| System::select(&names.iter().map(|n| (*n).into()).collect::<Vec<_>>());
        assert_eq!(select(&[]), System::ALL);
        let both = [System::WarmqHttp, System::WarmqAmqp];
        assert_eq!(select(&["warmq"]), both);
        assert_eq!(
            select(&["celery", "warmq-amqp"]),
            [System::WarmqAmqp, System::Celery]
        );
        assert_eq!(select(&["sidekiq"]), []);
    }
}
