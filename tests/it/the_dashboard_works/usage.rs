//! What ended jobs used.

use warmq_tests::System;
use warmq_tests::system::{TIMED, TIMEOUT};

use super::WIDE;
use super::browser::Browser;

#[tokio::test]
async fn usage_is_shown_by_day_and_by_app() {
    let system = System::with_config("[apps.'bench/timed']").await;
    let _worker = system.timed_worker("a").await;
    for _ in 0..3 {
        system.succeeded(system.submit("m", 20).await).await;
    }
    let counted = async || {
        let usage = system.get("/v1/usage").await.body;
        (usage["total"]["succeeded"] == 3).then_some(usage)
    };
    let usage = system.until("the jobs are counted", TIMEOUT, counted).await;
    let browser = Browser::open(&system, WIDE).await;
    browser.view("usage").await;
    browser.shows(usage["to"].as_str().unwrap()).await;
    let total = "return document.querySelector('tfoot tr')?.innerText.replace(/\\s+/g, ' ').startsWith('Total 3 0 0 0 0 ')";
    browser.holds("the last row has the sums", total).await;
    browser.press("Apps").await;
    browser.shows(TIMED).await;
    let kept = "return location.hash.includes('by=app')";
    browser.holds("the address has the choice", kept).await;
    browser.picture("usage").await;
    browser.has_no_errors().await;
    browser.close().await;
    system.cleanup().await;
}
