//! Jobs: submitted, watched, cancelled, run again, redriven.

use std::path::Path;

use serde_json::json;
use warmq_testkit::{Worker, WorkerOptions};
use warmq_tests::System;
use warmq_tests::system::TIMED;
use warmq_types::ids::{AppId, JobId};
use warmq_types::state::JobState;

use super::WIDE;
use super::browser::Browser;
use crate::dead_letters_can_be_redriven::quarantined;

const APP: &str = "warmq/diffusion";

/// Returns the job whose page is open.
async fn shown_job(browser: &Browser) -> JobId {
    browser
        .holds(
            "a job's page is open",
            "return location.hash.startsWith('#/jobs/')",
        )
        .await;
    let hash = browser.run("return location.hash").await;
    let id = hash.as_str().unwrap().trim_start_matches("#/jobs/");
    id.parse().unwrap()
}

/// Starts a worker with the models that ship.
async fn painter(system: &System) -> Worker {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let options = WorkerOptions::diffusion("painter", APP, models);
    system.worker(options).await
}

#[tokio::test]
async fn a_job_is_submitted_and_its_picture_appears() {
    let system = System::start().await;
    let _painter = painter(&system).await;
    let browser = Browser::open(&system, WIDE).await;
    browser.view(&format!("submit/{APP}")).await;
    browser.shows("on disk only").await;
    browser
        .find("input[value='shapes']")
        .await
        .click()
        .await
        .unwrap();
    let prompt = "a red circle on a blue background";
    browser.write("#input-prompt", prompt).await;
    browser.picture("submit").await;
    browser.press("Submit").await;
    let id = shown_job(&browser).await;
    browser.shows("succeeded").await;
    browser.shows("Its hint is 'shapes'").await;
    let loaded = "const image = document.querySelector('.pictures img'); return !!image && image.naturalWidth === 64";
    browser.holds("the picture is loaded", loaded).await;
    let job = system.succeeded(id).await;
    assert_eq!(job.spec.input["prompt"], prompt);
    browser.picture("job").await;

    browser.press("Run again").await;
    let filled = "return document.querySelector('#input-prompt')?.value.startsWith('a red circle')";
    browser.holds("the input is filled in", filled).await;
    browser.press("Submit").await;
    browser.shows("warm as predicted").await;
    let again = shown_job(&browser).await;
    assert_ne!(again, id);
    assert!(system.succeeded(again).await.timings.unwrap().warm);

    // The model is loaded now, and the history has both runs.
    browser.view("fleet").await;
    browser.find(".fleet-row .chip[data-tier='device']").await;
    browser.view("overview").await;
    browser.shows("50 %").await;
    browser.has_no_errors().await;
    browser.close().await;
    system.cleanup().await;
}

#[tokio::test]
async fn the_picture_of_a_running_job_is_previewed() {
    let system = System::start().await;
    let _painter = painter(&system).await;
    let browser = Browser::open(&system, WIDE).await;
    let input = json!({"prompt": "a red circle on a blue background", "steps": 200, "num_images": 4, "preview": true});
    let id = system.submit_to(APP, "shapes", input).await;
    browser.view(&format!("jobs/{id}")).await;
    let previewed = "const image = document.querySelector('.preview img'); return !!image && !image.hidden && image.naturalWidth > 0";
    browser.holds("a preview is shown", previewed).await;
    assert_eq!(system.job(id).await.state, JobState::Running);
    browser.view("fleet").await;
    let thumbnail = "const image = document.querySelector('.fleet-row img.thumb'); return !!image && !image.hidden";
    browser.holds("the fleet shows it as well", thumbnail).await;
    browser.has_no_errors().await;
    browser.close().await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_mistake_in_the_input_is_shown_at_its_field() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let browser = Browser::open(&system, WIDE).await;
    browser.view(&format!("submit/{TIMED}")).await;
    browser
        .write("#input-more", "{\"hang_ms\": \"long\"}")
        .await;
    browser.press("Submit").await;
    let marked = "return !!document.querySelector('#input-hang_ms[aria-invalid=true]')";
    browser.holds("the field is marked", marked).await;
    browser.shows("is not of type \"integer\"").await;
    browser.close().await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_running_job_is_watched_and_cancelled() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let id = system.submit("m", 60_000).await;
    system.reached(id, JobState::Running).await;
    let browser = Browser::open(&system, WIDE).await;
    browser.view(&format!("jobs/{id}")).await;
    browser.shows("Running: step").await;
    browser.shows("attempt 1 begins").await;
    browser.shows("It has been running for").await;
    browser.picture("job-running").await;
    browser.press("Cancel job").await;
    browser.shows("Cancel this job?").await;
    browser
        .find("dialog button[value='yes']")
        .await
        .click()
        .await
        .unwrap();
    browser.shows("It was cancelled at").await;
    assert_eq!(system.job(id).await.state, JobState::Cancelled);
    browser.has_no_errors().await;
    browser.close().await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_dead_letter_is_redriven() {
    let system = System::with_config("[apps.'bench/timed']").await;
    let app = AppId::parse(TIMED).unwrap();
    // Listing declares the queue.
    let listed = system.get(&format!("/v1/dead/{TIMED}")).await;
    assert_eq!(listed.body["letters"], json!([]));
    let id = quarantined(&system, &app).await;
    let browser = Browser::open(&system, WIDE).await;
    browser.view("dead").await;
    browser
        .shows("it was running when its runner was lost")
        .await;
    browser.picture("dead").await;
    let _worker = system.timed_worker("a").await;
    browser
        .find(&format!("tr[data-id='{id}'] .primary"))
        .await
        .click()
        .await
        .unwrap();
    browser.shows("Submitted again").await;
    system.succeeded(id).await;
    browser.has_no_errors().await;
    browser.close().await;
    system.cleanup().await;
}

#[tokio::test]
async fn the_steps_of_a_flow_are_a_graph() {
    let route = r#"
        [apps."bench/timed"]
        [routes."acme/twice"]
        kind = "sequence"
        steps = [
          { name = "first", app = "bench/timed" },
          { name = "second", app = "bench/timed", input = { run_ms = 1, load_ms = 0 } },
        ]
    "#;
    let system = System::with_config(route).await;
    let _worker = system.timed_worker("a").await;
    let id = system
        .submit_to("acme/twice", "m", json!({"run_ms": 1, "load_ms": 1}))
        .await;
    system.succeeded(id).await;
    let browser = Browser::open(&system, WIDE).await;
    browser.view(&format!("jobs/{id}")).await;
    browser.shows("It is a sequence of 2 steps").await;
    browser
        .holds(
            "both steps are shown",
            "return document.querySelectorAll('.flow-step').length === 2",
        )
        .await;
    browser.picture("flow").await;
    browser.has_no_errors().await;
    browser.close().await;
    system.cleanup().await;
}

#[tokio::test]
async fn jobs_are_listed_filtered_and_paged() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let input = json!({"run_ms": 1, "load_ms": 1, "fail": "out of paint"});
    let failed = system.submit_to(TIMED, "m", input).await;
    system.ended(failed).await;
    for _ in 0..51 {
        system.submit("m", 1).await;
    }
    let browser = Browser::open(&system, WIDE).await;
    browser.view("jobs").await;
    let rows =
        |number: u32| format!("return document.querySelectorAll('tbody tr').length === {number}");
    browser.holds("a page is shown", &rows(50)).await;
    browser.picture("jobs").await;
    browser.press("Show older jobs").await;
    browser.holds("all are shown", &rows(52)).await;
    browser.view("jobs?state=failed").await;
    browser.shows("out of paint").await;
    browser.holds("the filter leaves one", &rows(1)).await;
    let text = failed.to_string();
    browser
        .press(&format!("…{}", &text[text.len() - 8..]))
        .await;
    assert_eq!(shown_job(&browser).await, failed);
    browser.has_no_errors().await;
    browser.close().await;
    system.cleanup().await;
}

#[tokio::test]
async fn hostile_text_is_shown_as_text() {
    const HOSTILE: &str = "<img src=x onerror=alert(1)>";
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let input = json!({"run_ms": 1, "load_ms": 1, "fail": HOSTILE});
    let id = system.submit_to(TIMED, HOSTILE, input).await;
    system.ended(id).await;
    let browser = Browser::open(&system, WIDE).await;
    browser.view(&format!("jobs/{id}")).await;
    browser.shows(HOSTILE).await;
    browser.shows("failed").await;
    browser.view("fleet").await;
    browser.shows(HOSTILE).await;
    let markup = "return document.querySelectorAll('img[src=x]').length === 0";
    browser.holds("no markup was made of it", markup).await;
    browser.has_no_errors().await;
    browser.close().await;
    system.cleanup().await;
}
