//! Files of expired jobs and old uploads are deleted, and no others.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use warmq_tests::System;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::ids::JobId;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Starts a router that cleans up every second.
async fn system() -> System {
    let config = format!(
        "cleanup_interval = '1s'\n[apps.'{TIMED}']\n[apps.'a/archive']\nkeep_files = 'forever'"
    );
    System::with_config(&config).await
}

/// Returns how often the router reported that others use its storage.
fn reports(system: &System) -> usize {
    let log = std::fs::read_to_string(system.router.log()).unwrap();
    log.matches("the storage is used by another namespace or Redis")
        .count()
}

fn storage(system: &System) -> PathBuf {
    system.testbed.folder().join("files")
}

/// Writes a file of this age, and returns its path.
fn write(storage: &Path, key: &str, age: Duration) -> PathBuf {
    let path = storage.join(key);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "content").unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
    path
}

#[tokio::test]
async fn files_of_expired_jobs_old_uploads_and_abandoned_parts_are_deleted_and_no_others() {
    let system = system().await;
    let known = system.submit("m", 1).await;
    let kept = JobId::generate();
    let retention = system.testbed.store().file_retention();
    retention
        .keep(&format!("{TIMED}/{kept}"), 3600)
        .await
        .unwrap();
    let storage = storage(&system);
    let expired = || format!("{TIMED}/{}", JobId::generate());
    let old = [
        (format!("{}/1/0.png", expired()), 2 * HOUR),
        ("uploads/0a1b/cat.png".to_owned(), 15 * DAY),
        ("uploads/0a1c/.parts/1".to_owned(), 2 * DAY),
        (format!(".inputs/{}/ab.json", expired()), 31 * DAY),
        (format!("{TIMED}/probes/r"), 2 * DAY),
    ];
    let needed = [
        (format!("{}/1/0.png", expired()), HOUR / 2),
        (format!("{TIMED}/{known}/1/0.png"), 2 * DAY),
        (format!("{TIMED}/{kept}/1/0.png"), 2 * DAY),
        (format!(".inputs/{TIMED}/{known}/ab.json"), 31 * DAY),
        (format!(".inputs/{}/ab.json", expired()), 2 * DAY),
        (format!("a/archive/{}/1/0.png", JobId::generate()), 9 * DAY),
        ("uploads/0a1d/cat.png".to_owned(), 2 * DAY),
        ("notes/of/operators.txt".to_owned(), 99 * DAY),
    ];
    let paths = |files: &[(String, Duration)]| -> Vec<PathBuf> {
        files
            .iter()
            .map(|(key, age)| write(&storage, key, *age))
            .collect()
    };
    let (old, needed) = (paths(&old), paths(&needed));
    system
        .until("the old files are deleted", TIMEOUT, async || {
            old.iter().all(|path| !path.exists()).then_some(())
        })
        .await;
    // A cleanup that began after the deletions has ended as well: it would delete a second file.
    let second = write(&storage, &format!("{}/1/0.png", expired()), 2 * HOUR);
    system
        .until("another cleanup has ended", TIMEOUT, async || {
            (!second.exists()).then_some(())
        })
        .await;
    for path in needed {
        assert!(path.exists(), "{}", path.display());
    }
    system.cleanup().await;
}

#[tokio::test]
async fn in_a_storage_that_another_installation_uses_nothing_is_deleted() {
    let system = system().await;
    let storage = storage(&system);
    let other = write(&storage, ".installations/00ff", DAY);
    let until_reported = async |times: usize| {
        system
            .until("the router reports why", TIMEOUT, async || {
                (reports(&system) >= times).then_some(())
            })
            .await;
    };
    until_reported(1).await;
    let key = format!("{TIMED}/{}/1/0.png", JobId::generate());
    let expired = write(&storage, &key, DAY);
    // The first of these may have begun before the file was written.
    until_reported(reports(&system) + 2).await;
    assert!(expired.exists());
    std::fs::remove_file(other).unwrap();
    system
        .until("the file is deleted", TIMEOUT, async || {
            (!expired.exists()).then_some(())
        })
        .await;
    system.cleanup().await;
}

#[tokio::test]
async fn the_oldest_files_of_ended_jobs_go_above_the_size_bound_of_an_app() {
    let config = format!(
        "cleanup_interval = '1s'\n[apps.'{TIMED}']\nkeep_files = 'forever'\nmax_files = '20B'"
    );
    let system = System::with_config(&config).await;
    let storage = storage(&system);
    let _worker = system.timed_worker("a").await;
    let ended = system.submit("m", 1).await;
    system.succeeded(ended).await;
    let running = system.submit("m", 60_000).await;
    let requested = JobId::generate();
    let retention = system.testbed.store().file_retention();
    let folder = format!("{TIMED}/{requested}");
    retention.keep(&folder, 3600).await.unwrap();
    // 7 bytes each: two of these exceed the bound with those that stay.
    let write = |job: JobId, age| write(&storage, &format!("{TIMED}/{job}/1/0.png"), age);
    let stay = [
        write(running, 9 * DAY),
        write(requested, 8 * DAY),
        write(JobId::generate(), HOUR / 2),
        write(JobId::generate(), HOUR / 3),
    ];
    let go = [write(ended, 3 * HOUR), write(JobId::generate(), 2 * HOUR)];
    system
        .until("the oldest files are deleted", TIMEOUT, async || {
            go.iter().all(|path| !path.exists()).then_some(())
        })
        .await;
    for path in stay {
        assert!(path.exists(), "{}", path.display());
    }
    system.cleanup().await;
}
