//! Cost of a page of the job list: independent of the number of jobs.

use futures::{StreamExt, stream};
use serde_json::json;
use warmq_store::{AdmissionRules, Created, JobFilter, Store};
use warmq_testkit::{PrivateRedis, Testbed};
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobSpec;
use warmq_types::state::JobState;

/// Enough for a full page of every filter.
const FEW: usize = 6_000;
const MANY: usize = 50_000;

/// Jobs of a page.
const LIMIT: usize = 50;

/// One job in this many has another app, hint and owner than the rest.
const RARE: usize = 100;

fn app(name: &str) -> AppId {
    name.parse().unwrap()
}

fn spec(number: usize) -> JobSpec {
    let (name, hint, owner) = match number % RARE {
        0 => ("rare/app", "rare", "rare-1"),
        _ => ("common/app", "common", "common-1"),
    };
    JobSpec {
        hint: Some(hint.parse().unwrap()),
        owner: Some(owner.parse().unwrap()),
        ..JobSpec::new(app(name), json!({"prompt": "a red circle", "model": hint}))
    }
}

/// Records waiting jobs.
async fn create(store: &Store, jobs: usize) {
    // Saves a command per job.
    let rules = AdmissionRules {
        max_queue_length: Some(u64::MAX),
        ..AdmissionRules::default()
    };
    stream::iter(0..jobs)
        .for_each_concurrent(64, async |number| {
            let created = store.jobs().admit(&spec(number), rules).await.unwrap();
            assert!(matches!(created, Created::New { .. }));
        })
        .await;
}

/// Returns the filters whose pages have a bounded cost each, with the jobs that pass.
fn filters() -> Vec<(&'static str, JobFilter)> {
    let all = JobFilter::default();
    let of = |states: &[JobState], name: Option<&str>, hint: Option<&str>, owner: Option<&str>| {
        JobFilter {
            states: states.to_vec(),
            app: name.map(app),
            hint: hint.map(|hint| hint.parse().unwrap()),
            owner: owner.map(|owner| owner.parse().unwrap()),
            before: None,
        }
    };
    let queued = &[JobState::Queued];
    vec![
        ("all", all),
        ("state", of(queued, None, None, None)),
        ("rare app", of(&[], Some("rare/app"), None, None)),
        ("app", of(&[], Some("common/app"), None, None)),
        ("hint", of(&[], None, Some("common"), None)),
        ("rare hint", of(&[], None, Some("rare"), None)),
        ("key", of(&[], None, None, Some("rare-1"))),
        ("app, state", of(queued, Some("rare/app"), None, None)),
        (
            "all four",
            of(queued, Some("rare/app"), Some("rare"), Some("rare-1")),
        ),
        (
            "no job in the state",
            of(&[JobState::Failed], None, None, Some("common-1")),
        ),
        (
            "no job of the key",
            of(queued, Some("common/app"), None, Some("unknown-1")),
        ),
    ]
}

/// Returns commands and KiB of output that each filter's first page costs Redis.
async fn costs(redis: &PrivateRedis, store: &Store) -> Vec<(&'static str, u64, u64, usize)> {
    let mut costs = Vec::new();
    for (name, filter) in filters() {
        let read = async |counter| redis.stat(counter).await.unwrap();
        let commands = read("total_commands_processed").await;
        let bytes = read("total_net_output_bytes").await;
        let page = store.job_list().page(&filter, LIMIT).await.unwrap();
        let commands = read("total_commands_processed").await - commands;
        let bytes = read("total_net_output_bytes").await - bytes;
        costs.push((name, commands, bytes / 1024, page.jobs.len()));
    }
    costs
}

#[tokio::test]
async fn a_page_costs_the_same_among_50_000_jobs_as_among_6_000() {
    let settings = [("--appendonly", "no".to_owned())];
    let redis = PrivateRedis::start_configured(settings).await.unwrap();
    let testbed = Testbed::builder().redis_url(redis.url().expose());
    let testbed = testbed.start().await.unwrap();
    let store = testbed.store();
    // The last jobs of both are distributed alike.
    create(store, FEW).await;
    let few = costs(&redis, store).await;
    create(store, MANY - FEW).await;
    let many = costs(&redis, store).await;
    for ((name, commands, kib, jobs), (_, before, kib_before, jobs_before)) in
        many.into_iter().zip(few)
    {
        println!("{name}: {commands} commands, {kib} KiB, {jobs} jobs");
        assert!(
            commands <= before + 10,
            "{name}: {before} to {commands} commands"
        );
        assert!(kib <= kib_before + 10, "{name}: {kib_before} to {kib} KiB");
        assert!(commands < 300, "{name}: {commands} commands");
        assert_eq!(jobs, jobs_before, "{name}");
    }
    testbed.cleanup().await.unwrap();
}

/// A filter that passes one job in a hundred of the smallest range.
#[tokio::test]
async fn a_page_of_a_rare_combination_is_bounded_and_continues() {
    let testbed = Testbed::builder().start().await.unwrap();
    let store = testbed.store();
    let owner = "common-1".parse().unwrap();
    let mut rare: Vec<JobId> = Vec::new();
    for number in 0..3_000 {
        let mut job = spec(1);
        if number % 1_000 == 0 {
            job.hint = Some("rare".parse().unwrap());
            rare.insert(0, job.id);
        } else if number % 2 == 0 {
            // As many jobs of the hint, of another key.
            (job.owner, job.hint) = (None, Some("rare".parse().unwrap()));
        }
        store.jobs().create(&job).await.unwrap();
    }
    let mut filter = JobFilter {
        hint: Some("rare".parse().unwrap()),
        owner: Some(owner),
        ..JobFilter::default()
    };
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = store.job_list().page(&filter, LIMIT).await.unwrap();
        found.extend(page.jobs.into_iter().map(|job| job.spec.id));
        pages += 1;
        match page.next {
            Some(next) => filter.before = Some(warmq_store::Before::Job(next)),
            None => break,
        }
    }
    assert_eq!(found, rare);
    assert_eq!(pages, 2, "1000 entries are examined per page");
    testbed.cleanup().await.unwrap();
}
