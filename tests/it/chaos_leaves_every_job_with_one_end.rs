//! The short form of `make chaos`: private servers, one seed.

use warmq_tests::chaos::{Progress, Scale, report, run};

/// A seed with eight severe faults: Redis, RabbitMQ, a router and a worker are killed, and a worker
/// is frozen beyond its lease.
const SEED: u64 = 35;

#[tokio::test(flavor = "multi_thread")]
async fn chaos_leaves_every_job_with_one_end() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = run(SEED, Scale::SHORT, folder.path(), Progress::new("chaos")).await;
    // A failure keeps the logs.
    let logs = folder.keep();
    let outcome = outcome.unwrap_or_else(|error| panic!("{error:#}; see {}", logs.display()));
    let verdict = &outcome.verdict;
    for bad in &verdict.bad {
        println!("{}", report::details(bad));
    }
    assert!(verdict.is_clean(), "see {}", logs.display());
    // The probes after the faults are jobs, too.
    assert_eq!(verdict.accepted, Scale::SHORT.jobs + Scale::SHORT.faults);
    std::fs::remove_dir_all(logs).unwrap();
}
