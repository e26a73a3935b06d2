//! The plan of a run: targets, times and durations of faults, drawn from a seed before the run.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use warmq_types::queue_type::QueueType;

/// Number of workers in a run.
pub const WORKERS: usize = 4;

/// Number of routers in a run.
pub const ROUTERS: usize = 2;

/// The size of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Number of submissions.
    pub jobs: usize,
    /// Number of faults, of [`Kind::FULL`].
    pub faults: usize,
    /// Period in which jobs are submitted and faults begin.
    pub length: Duration,
    /// After all faults, the remaining jobs are stuck if none ended for so long. Longer than a
    /// lease and the retry tier that may park a job.
    pub stall_timeout: Duration,
}

impl Scale {
    /// Every kind of fault, and 3000 jobs.
    pub const FULL: Self = Self {
        jobs: 3000,
        faults: Kind::FULL.len(),
        length: Duration::from_secs(50),
        stall_timeout: Duration::from_secs(100),
    };

    /// For the integration tests.
    pub const SHORT: Self = Self {
        jobs: 600,
        faults: 8,
        length: Duration::from_secs(25),
        stall_timeout: Duration::from_secs(60),
    };
}

/// The role of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Executes jobs.
    Worker,
    /// Accepts jobs; one of them dispatches.
    Router,
    /// The private Redis.
    Redis,
    /// The private RabbitMQ.
    RabbitMq,
}

impl Role {
    /// Number of processes with this role.
    pub fn count(self) -> usize {
        match self {
            Self::Worker => WORKERS,
            Self::Router => ROUTERS,
            Self::Redis | Self::RabbitMq => 1,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Worker => "worker",
            Self::Router => "router",
            Self::Redis => "Redis",
            Self::RabbitMq => "RabbitMQ",
        })
    }
}

/// The harm of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Harm {
    /// SIGKILL, and a restart after the fault's duration.
    Kill,
    /// SIGSTOP, and SIGCONT after the fault's duration.
    Freeze,
    /// SIGTERM, and a restart as soon as it ended.
    Restart,
    /// Connections to Redis break, and new ones fail for the fault's duration.
    CutFromRedis,
    /// Connections to RabbitMQ break, and new ones fail for the fault's duration.
    CutFromRabbitMq,
}

/// A harm to one role, by which recovery times are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// Role of the victim.
    pub role: Role,
    /// What is done to the victim.
    pub harm: Harm,
}

impl Kind {
    /// All kinds of faults.
    pub const ALL: [Self; 16] = {
        const fn kind(role: Role, harm: Harm) -> Kind {
            Kind { role, harm }
        }
        [
            kind(Role::Worker, Harm::Kill),
            kind(Role::Worker, Harm::Freeze),
            kind(Role::Worker, Harm::Restart),
            kind(Role::Worker, Harm::CutFromRedis),
            kind(Role::Worker, Harm::CutFromRabbitMq),
            kind(Role::Router, Harm::Kill),
            kind(Role::Router, Harm::Freeze),
            kind(Role::Router, Harm::Restart),
            kind(Role::Router, Harm::CutFromRedis),
            kind(Role::Router, Harm::CutFromRabbitMq),
            kind(Role::Redis, Harm::Kill),
            kind(Role::Redis, Harm::Freeze),
            kind(Role::Redis, Harm::Restart),
            kind(Role::RabbitMq, Harm::Kill),
            kind(Role::RabbitMq, Harm::Freeze),
            kind(Role::RabbitMq, Harm::Restart),
        ]
    };

    /// The kinds of a full run: each once, and more of those that make jobs run twice.
    pub const FULL: [Self; 20] = {
        let [killed, frozen, ..] = Self::ALL;
        let mut full = [killed; 20];
        let mut index = 0;
        while index < Self::ALL.len() {
            full[index] = Self::ALL[index];
            index += 1;
        }
        (full[18], full[19]) = (frozen, frozen);
        full
    };

    /// Range of durations, ms. A frozen worker may outlive its lease (15 s) and the next attempt of
    /// its job, a frozen router its leadership (5 s), and a frozen server its clients' timeouts.
    fn duration_ms(self) -> RangeInclusive<u64> {
        match (self.harm, self.role) {
            (Harm::Restart, _) => 0..=0,
            (Harm::Kill, Role::RabbitMq) => 500..=2000,
            (Harm::Kill, _) => 500..=5000,
            (Harm::Freeze, Role::Worker) => 5000..=30_000,
            (Harm::Freeze, Role::Router | Role::RabbitMq) => 2000..=12_000,
            (Harm::Freeze, Role::Redis) => 1000..=8000,
            (Harm::CutFromRedis | Harm::CutFromRabbitMq, _) => 1000..=8000,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, harm } = self;
        match harm {
            Harm::Kill => write!(f, "{role} killed"),
            Harm::Freeze => write!(f, "{role} frozen"),
            Harm::Restart => write!(f, "{role} restarted"),
            Harm::CutFromRedis => write!(f, "{role} cut from Redis"),
            Harm::CutFromRabbitMq => write!(f, "{role} cut from RabbitMQ"),
        }
    }
}

/// The identity of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Victim {
    /// Role of the victim.
    pub role: Role,
    /// Index within the role, from 0.
    pub index: usize,
}

impl Victim {
    /// The only Redis.
    pub const REDIS: Self = Self {
        role: Role::Redis,
        index: 0,
    };

    /// The only RabbitMQ.
    pub const RABBITMQ: Self = Self {
        role: Role::RabbitMq,
        index: 0,
    };

    /// All targets of a role.
    pub fn of(role: Role) -> impl Iterator<Item = Self> {
        (0..role.count()).map(move |index| Self { role, index })
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role.count() {
            1 => self.role.fmt(f),
            _ => write!(f, "{}-{}", self.role, self.index + 1),
        }
    }
}

/// A fault. Those of one victim follow each other; those of different victims may overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Earliest beginning, from the first submission on.
    pub at: Duration,
    /// Identity of the target.
    pub victim: Victim,
    /// What is done to the victim.
    pub harm: Harm,
    /// Time until it is healed.
    pub duration: Duration,
}

impl Fault {
    /// Kind of the fault.
    pub fn kind(&self) -> Kind {
        Kind {
            role: self.victim.role,
            harm: self.harm,
        }
    }
}

/// All faults of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Seed of the generators.
    pub seed: u64,
    /// Type of the durable queues: classic for odd seeds, quorum for even ones.
    pub queue_type: QueueType,
    /// In the order of their beginnings.
    pub faults: Vec<Fault>,
}

impl Plan {
    /// Draws the plan of a seed.
    pub fn draw(seed: u64, scale: Scale) -> Self {
        let mut rng = stream(seed, 0);
        let mut kinds = Vec::new();
        while kinds.len() < scale.faults {
            let mut full = Kind::FULL;
            full.shuffle(&mut rng);
            kinds.extend(full);
        }
        kinds.truncate(scale.faults);
        // One in each equal part of the time: random gaps would leave long quiet periods.
        let part = scale.length / u32::try_from(scale.faults.max(1)).unwrap_or(u32::MAX);
        let faults = (0u32..).zip(kinds).map(|(number, kind)| Fault {
            at: part * number + part.mul_f64(rng.random()),
            victim: Victim {
                role: kind.role,
                index: rng.random_range(0..kind.role.count()),
            },
            harm: kind.harm,
            duration: Duration::from_millis(rng.random_range(kind.duration_ms())),
        });
        Self {
            seed,
            faults: faults.collect(),
            queue_type: match seed % 2 {
                0 => QueueType::Quorum,
                _ => QueueType::Classic,
            },
        }
    }

    /// Returns the faults of `victim`, in order.
    pub fn of(&self, victim: Victim) -> Vec<Fault> {
        let faults = self.faults.iter().copied();
        faults.filter(|fault| fault.victim == victim).collect()
    }
}

/// Returns one of a seed's independent random streams.
pub(super) fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_seed_determines_the_plan(seed: u64) {
            prop_assert_eq!(Plan::draw(seed, Scale::FULL), Plan::draw(seed, Scale::FULL));
        }

        #[test]
        fn a_full_run_has_every_kind_of_fault_in_its_time(seed: u64) {
            let Plan { faults, .. } = Plan::draw(seed, Scale::FULL);
            let kinds: BTreeSet<Kind> = faults.iter().map(Fault::kind).collect();
            prop_assert_eq!(kinds.len(), Kind::ALL.len());
            prop_assert!(faults.is_sorted_by_key(|fault| fault.at));
            for fault in faults {
                prop_assert!(fault.at <= Scale::FULL.length);
                let Victim { role, index } = fault.victim;
                prop_assert!(index < role.count());
            }
        }

        #[test]
        fn every_fault_has_one_victim(seed: u64) {
            let plan = Plan::draw(seed, Scale::FULL);
            let roles = [Role::Worker, Role::Router, Role::Redis, Role::RabbitMq];
            let everybody = roles.into_iter().flat_map(Victim::of);
            let reports: usize = everybody.map(|victim| plan.of(victim).len()).sum();
            prop_assert_eq!(reports, plan.faults.len());
        }
    }

    #[test]
    fn seeds_differ() {
        let faults = |seed| Plan::draw(seed, Scale::FULL).faults;
        assert_ne!(faults(1), faults(3));
    }
}
