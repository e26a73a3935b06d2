//! A worker serves its own metrics where `--metrics-listen` says so.

use warmq_testkit::{WorkerOptions, free_port};
use warmq_tests::System;
use warmq_tests::metrics::Page;
use warmq_tests::system::{TIMED, TIMEOUT};

async fn page(address: &str) -> String {
    let url = format!("http://{address}/metrics");
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn a_worker_serves_what_its_runners_did_and_hold() {
    let system = System::start().await;
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let options = WorkerOptions::timed("a", TIMED);
    let _worker = system
        .worker(options.args(["--metrics-listen", &address]))
        .await;
    for hint in ["one", "one", "two", "three"] {
        system.succeeded(system.submit(hint, 10).await).await;
    }
    let runner = [("runner", "a")];
    let outcome = [("runner", "a"), ("outcome", "succeeded")];
    let page = system.until("four jobs are counted", TIMEOUT, async || {
        let page = Page::read(&page(&address).await);
        let jobs = page.get("warmq_worker_jobs_total", &outcome);
        (jobs == Some(4.0) && page.get("warmq_worker_busy", &runner) == Some(0.0)).then_some(page)
    });
    let page = page.await;
    // Two fit: the third displaces one.
    let device = [("runner", "a"), ("tier", "device")];
    assert_eq!(page.get("warmq_worker_models", &device), Some(2.0));
    assert_eq!(page.get("warmq_worker_evictions_total", &runner), Some(1.0));
    let loads = page.get("warmq_worker_load_seconds_count", &[("from", "disk")]);
    assert_eq!(loads, Some(3.0));
    let health = reqwest::get(format!("http://{address}/healthz")).await;
    assert_eq!(health.unwrap().status(), 200);
    system.cleanup().await;
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let system = System::start().await;
    let address = system.router.url().strip_prefix("http://").unwrap();
    let options = WorkerOptions::timed("a", TIMED).args(["--metrics-listen", address]);
    let error = system.testbed.worker(options).await.err().unwrap();
    let expected = format!("metrics-listen: cannot listen on {address}");
    assert!(error.to_string().contains(&expected), "{error}");
    system.cleanup().await;
}
