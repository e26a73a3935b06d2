//! 500 runners and 10,000 waiting jobs.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use warmq_store::{Registration, RunnerReport};
use warmq_testkit::registration;
use warmq_tests::System;
use warmq_tests::system::TIMEOUT;
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, Epoch, RunnerId};
use warmq_types::job::{JobSpec, Priority};

use super::browser::Browser;
use super::{PHONE, WIDE};

const RUNNERS: usize = 500;

const JOBS: usize = 10_000;

/// Registers runners without processes, with a lease that outlives the test.
async fn register(system: &System, app: &AppId) {
    let models: Vec<Hint> = ["shapes", "digits", "landscapes", "portraits", "textures"]
        .map(|name| Hint::parse(name).unwrap())
        .to_vec();
    let runner = |n: usize| {
        let id: RunnerId = format!("gpu-{n:03}").parse().unwrap();
        let hints = vec![models[n % 5].clone(), models[(n / 5) % 5].clone()];
        Registration {
            host: format!("node-{:02}", n / 8),
            device: format!("cuda:{}", n % 8),
            memory_budget_bytes: 24 << 30,
            models: models.clone(),
            report: RunnerReport {
                memory_bytes: (6 + (n as u64 % 15)) << 30,
                slots: 3,
                ram_hints: vec![models[(n + 2) % 5].clone()],
                hints: match n % 5 == (n / 5) % 5 {
                    true => hints[..1].to_vec(),
                    false => hints,
                },
                ..RunnerReport::default()
            },
            ..registration(app, &id)
        }
    };
    let membership = system.testbed.store().membership();
    let registered = (0..RUNNERS).map(async |n| {
        let lease = Duration::from_secs(600);
        membership
            .register(&runner(n), &json!(true), lease)
            .await
            .unwrap();
    });
    join_all(registered).await;
}

/// Records waiting jobs; every tenth is of the low lane.
async fn enqueue(system: &System, app: &AppId) {
    let jobs = system.testbed.store().jobs();
    for chunk in (0..JOBS).collect::<Vec<_>>().chunks(500) {
        let created = chunk.iter().map(async |n| {
            let job = JobSpec {
                hint: Hint::parse(["shapes", "digits", "landscapes"][n % 3]).ok(),
                priority: match n % 10 {
                    0 => Priority::Low,
                    _ => Priority::Normal,
                },
                ..JobSpec::new(app.clone(), json!({}))
            };
            jobs.create(&job).await.unwrap();
        });
        join_all(created).await;
    }
}

#[tokio::test]
async fn five_hundred_runners_are_scrolled_and_filtered() {
    let system = System::with_config("[apps.'bench/timed']").await;
    // No dispatcher serves this app's queue: nothing claims the runners.
    let app = AppId::parse("acme/painted").unwrap();
    register(&system, &app).await;
    let browser = Browser::open(&system, WIDE).await;
    browser.view("fleet").await;
    let all = "return document.querySelectorAll('.fleet-row').length === 500";
    browser.holds("all runners have a row", all).await;
    browser.picture("fleet").await;
    // The whole way in steps of a screen. How long frames take depends on the machine.
    let script = "
        window.frames = []; let last = performance.now();
        const step = (now) => {
            window.frames.push(now - last); last = now;
            scrollBy(0, innerHeight);
            if (scrollY + innerHeight < document.documentElement.scrollHeight - 2) requestAnimationFrame(step);
            else window.scrolled = true;
        };
        requestAnimationFrame(step); return true";
    browser.run(script).await;
    browser
        .holds("the end is reached", "return window.scrolled === true")
        .await;
    let frames = browser.run("return window.frames").await;
    let frames: Vec<f64> = serde_json::from_value(frames).unwrap();
    let slowest = frames.iter().copied().fold(0.0, f64::max);
    println!("{} frames, the slowest {slowest:.0} ms", frames.len());
    let last = "const rows = [...document.querySelectorAll('.fleet-row')]; return rows.at(-1).innerText.includes('gpu-499')";
    browser.holds("the last runner is shown", last).await;
    // A runner that changes costs one row, whatever the size of the fleet.
    let observe = "
        window.touched = new Set();
        new MutationObserver((changes) => changes.forEach(({ target }) => {
            const row = (target.closest ? target : target.parentElement).closest('.fleet-row');
            if (row) window.touched.add(row.querySelector('strong').textContent);
        })).observe(document.querySelector('.fleet-rows'), { subtree: true, childList: true, attributes: true, characterData: true });
        return true";
    browser.run(observe).await;
    let report = RunnerReport {
        hints: vec![Hint::parse("loaded-since").unwrap()],
        ..RunnerReport::default()
    };
    let changed = ("gpu-499".parse().unwrap(), Epoch(1));
    let membership = system.testbed.store().membership();
    let registered = membership
        .report(&app, (&changed.0, changed.1), &[], &report)
        .await;
    assert!(registered.unwrap());
    browser.shows("loaded-since").await;
    let touched = browser.run("return [...window.touched]").await;
    assert_eq!(touched, json!(["gpu-499"]));
    browser.write("input.search", "gpu-123").await;
    browser
        .holds(
            "the filter leaves one",
            "return document.querySelectorAll('.fleet-row').length === 1",
        )
        .await;
    // A runner that leaves loses its row without a reload.
    let (runner, store) = ("gpu-123".parse().unwrap(), system.testbed.store());
    store
        .membership()
        .leave(&app, &runner, Epoch(1))
        .await
        .unwrap();
    browser.shows("No runner matches").await;
    browser.has_no_errors().await;
    browser.close().await;
    let phone = Browser::open(&system, PHONE).await;
    phone.view("fleet").await;
    phone.shows("gpu-000").await;
    phone.picture("fleet-phone").await;
    phone.close().await;
    system.cleanup().await;
}

#[tokio::test]
async fn ten_thousand_waiting_jobs_are_counted_per_lane_and_model() {
    let system = System::start().await;
    let app = AppId::parse("acme/painted").unwrap();
    register(&system, &app).await;
    enqueue(&system, &app).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let asked = Instant::now();
        let overview = system.get("/v1/overview").await.body;
        slowest = slowest.max(asked.elapsed());
        let queues = overview["queues"].as_array().unwrap();
        let queue = queues
            .iter()
            .find(|queue| queue["app"] == app.as_str())
            .unwrap();
        assert_eq!(queue["waiting"], JOBS);
        assert_eq!(
            (&queue["normal"], &queue["low"]),
            (&json!(9000), &json!(1000))
        );
        assert_eq!(overview["runners"].as_array().unwrap().len(), RUNNERS);
    }
    println!("the slowest overview took {slowest:?}");
    let browser = Browser::open(&system, WIDE).await;
    browser.view("queues").await;
    browser.shows("9,000").await;
    browser.shows("3,334").await;
    browser.picture("queues-long").await;
    browser.has_no_errors().await;
    browser.close().await;
    system.cleanup().await;
}

#[tokio::test]
async fn held_jobs_show_their_patience_and_the_history_what_holding_saved() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let held = system.hold_jobs().await;
    let browser = Browser::open(&system, WIDE).await;
    browser.view("queues").await;
    browser.shows("held").await;
    for id in held {
        system.succeeded(id).await;
    }
    let saved = async || {
        let history = system.get("/v1/history?minutes=5").await.body;
        let total = history["apps"][0]["total"].clone();
        (total["swaps_avoided"].as_u64()? >= 5).then_some(total)
    };
    let total = system.until("the ends are counted", TIMEOUT, saved).await;
    assert_eq!(
        (&total["succeeded"], &total["cold"]),
        (&json!(7), &json!(1))
    );
    assert!(
        total["loading_saved_ms"].as_u64().unwrap() >= 5 * 50,
        "{total}"
    );
    browser.view("overview").await;
    browser.shows("Swaps avoided").await;
    browser.picture("overview").await;
    browser.has_no_errors().await;
    browser.close().await;
    system.cleanup().await;
}
