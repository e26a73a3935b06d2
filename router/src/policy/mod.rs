//! The routing decision: pure functions over plain data. No clock, no I/O, no global randomness, so that the
//! dispatcher and a simulator can run the same code.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`fal`] | fal's documented rule: decides for one job at once, and remembers nothing |
//! | [`warm`] | holds jobs for warm runners: a state machine over events, which the simulator drives and the dispatcher will |

pub mod fal;
pub mod warm;

use warmq_common::config::PolicyName;
use warmq_common::hint::Candidates;
use warmq_common::job::{Decision, JobSpec};

/// Where `job` goes, given the idle runners that it could use. `refused_claims`: how often this job lost the runner
/// that an earlier decision chose.
pub fn decide(
    policy: PolicyName,
    job: &JobSpec,
    candidates: Candidates,
    refused_claims: u32,
) -> Decision {
    match policy {
        PolicyName::Fal => fal::decide(job, candidates, refused_claims),
    }
}
