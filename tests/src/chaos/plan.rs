//! What goes wrong, with whom, when and for how long: drawn from a seed before anything runs.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use warmq_types::queue_type::QueueType;

/// Workers of a run.
pub const WORKERS: usize = 4;

/// Routers of a run.
pub const ROUTERS: usize = 2;

/// How much of everything a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Jobs that are submitted.
    pub jobs: usize,
    /// Things that go wrong, of [`Kind::FULL`].
    pub faults: usize,
    /// Jobs are submitted, and faults begin, within this time.
    pub length: Duration,
    /// Once everything is healed, the jobs that are left when none ended for so long are stuck. Longer than a lease and the
    /// retry tier that a job may be parked in.
    pub stall_timeout: Duration,
}

impl Scale {
    /// Every kind of fault, and 3,000 jobs.
    pub const FULL: Self = Self {
        jobs: 3000,
        faults: Kind::FULL.len(),
        length: Duration::from_secs(50),
        stall_timeout: Duration::from_secs(100),
    };

    /// For a test that others wait for.
    pub const SHORT: Self = Self {
        jobs: 600,
        faults: 8,
        length: Duration::from_secs(25),
        stall_timeout: Duration::from_secs(60),
    };
}

/// Whose kind a victim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Runs jobs.
    Worker,
    /// Takes jobs in; one of them dispatches.
    Router,
    /// Redis itself.
    Redis,
    /// RabbitMQ itself.
    RabbitMq,
}

impl Role {
    /// How many there are.
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

/// What is done to a victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Harm {
    /// SIGKILL; it is started again after the fault's time.
    Kill,
    /// SIGSTOP, and SIGCONT after the fault's time.
    Freeze,
    /// SIGTERM, and it is started again as soon as it ended.
    Restart,
    /// Its connections to Redis break, and none comes through for the fault's time.
    CutFromRedis,
    /// Its connections to RabbitMQ break, and none comes through for the fault's time.
    CutFromRabbitMq,
}

/// A harm to one role: what times to recover are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// Who suffers it.
    pub role: Role,
    /// What it is.
    pub harm: Harm,
}

impl Kind {
    /// All there are.
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

    /// What a full run has: each kind once, and more of what makes jobs run twice.
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

    /// How long it lasts, ms. A frozen worker may outlive its lease (15 s) and the next attempt of its job, a frozen router its
    /// leadership (5 s), and a frozen server its clients' patience.
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

/// One of those that may suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Victim {
    /// What it is.
    pub role: Role,
    /// Which of its role, from 0.
    pub index: usize,
}

impl Victim {
    /// The one Redis.
    pub const REDIS: Self = Self {
        role: Role::Redis,
        index: 0,
    };

    /// The one RabbitMQ.
    pub const RABBITMQ: Self = Self {
        role: Role::RabbitMq,
        index: 0,
    };

    /// All of a role.
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

/// Something that goes wrong. What one victim suffers comes one after the other; different victims' faults may overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// When it begins at the earliest, from the first job on.
    pub at: Duration,
    /// To whom it happens.
    pub victim: Victim,
    /// What happens.
    pub harm: Harm,
    /// How long until it is healed.
    pub duration: Duration,
}

impl Fault {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        Kind {
            role: self.victim.role,
            harm: self.harm,
        }
    }
}

/// Everything that goes wrong in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// Type of the durable queues: classic for odd seeds, quorum for even ones.
    pub queue_type: QueueType,
    /// In the order of their beginnings.
    pub faults: Vec<Fault>,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64, scale: Scale) -> Self {
        let mut rng = stream(seed, 0);
        let mut kinds = Vec::new();
        while kinds.len() < scale.faults {
            let mut full = Kind::FULL;
            full.shuffle(&mut rng);
            kinds.extend(full);
        }
        kinds.truncate(scale.faults);
        // One in each equal part of the time: random gaps would leave long quiet ones.
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

    /// What `victim` suffers, in order.
    pub fn of(&self, victim: Victim) -> Vec<Fault> {
        let faults = self.faults.iter().copied();
        faults.filter(|fault| fault.victim == victim).collect()
    }
}

/// One of several independent sources of chance that a seed has.
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
