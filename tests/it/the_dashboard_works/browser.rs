//! A headless Chromium on the dashboard of a system.

use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use warmq_testkit::{Chromedriver, eventually};
use warmq_tests::System;
use warmq_tests::system::TIMEOUT;

/// Minimum width of a window; phones are emulated.
const MIN_WIDTH: u32 = 600;

/// Collects what goes wrong in the page.
const NOTE_ERRORS: &str = "
    window.errors = [];
    const note = (event) => window.errors.push(String(
        event.message ?? event.reason ?? `${event.violatedDirective} ${event.blockedURI}`));
    addEventListener('error', note);
    addEventListener('unhandledrejection', note);
    addEventListener('securitypolicyviolation', note);
";

/// A browser; its errors fail the test.
pub(super) struct Browser {
    client: Client,
    address: String,
    _driver: Chromedriver,
}

impl Browser {
    /// Opens the dashboard of the system's router in a window of this size.
    pub(super) async fn open(system: &System, (width, height): (u32, u32)) -> Self {
        let folder = system.testbed.folder();
        let driver = Chromedriver::start(folder).await.unwrap();
        let arguments = json!([
            "--headless=new",
            // Containers run tests as root, without the kernel's features for sandboxes.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--hide-scrollbars",
            format!("--window-size={width},{height}"),
        ]);
        let mut options = json!({"args": arguments});
        if width < MIN_WIDTH {
            let metrics = json!({"width": width, "height": height, "pixelRatio": 1});
            options["mobileEmulation"] = json!({"deviceMetrics": metrics});
        }
        let capabilities = json!({"goog:chromeOptions": options});
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.as_object().unwrap().clone())
            .connect(driver.url())
            .await
            .unwrap();
        let address = system.router.url().to_owned();
        client.goto(&address).await.unwrap();
        client.execute(NOTE_ERRORS, Vec::new()).await.unwrap();
        Self {
            client,
            address,
            _driver: driver,
        }
    }

    /// Ends the session and its browser.
    pub(super) async fn close(self) {
        self.client.close().await.unwrap();
    }

    /// Goes to a view: `fleet`, `jobs/ID`.
    pub(super) async fn view(&self, view: &str) {
        self.client
            .goto(&format!("{}/#/{view}", self.address))
            .await
            .unwrap();
    }

    /// Waits for an element by a CSS selector.
    pub(super) async fn find(&self, css: &str) -> Element {
        let found = async || self.client.find(Locator::Css(css)).await.ok();
        match eventually(css, TIMEOUT, found).await {
            Ok(element) => element,
            Err(error) => panic!("{error}; the page: {}", self.page().await),
        }
    }

    /// Waits for a button or link with exactly this text.
    pub(super) async fn press(&self, text: &str) {
        let path = format!(
            "//button[normalize-space()='{text}'] | //a[normalize-space()='{text}'] | //label[normalize-space()='{text}']"
        );
        // Between finding and clicking, the page may replace it.
        let pressed = async || {
            let found = self.client.find_all(Locator::XPath(&path)).await.ok()?;
            for element in found {
                if element.is_displayed().await.ok()? && element.click().await.is_ok() {
                    return Some(());
                }
            }
            None
        };
        if let Err(error) = eventually(text, TIMEOUT, pressed).await {
            panic!("{error}; the page: {}", self.page().await);
        }
    }

    /// Waits until the page shows a text.
    pub(super) async fn shows(&self, text: &str) {
        let shown = async || self.page().await.contains(text).then_some(());
        if let Err(error) = eventually(text, TIMEOUT, shown).await {
            panic!("{error}; the page: {}", self.page().await);
        }
    }

    /// Writes into a field.
    pub(super) async fn write(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Returns the visible text.
    pub(super) async fn page(&self) -> String {
        let text = self.run("return document.body.innerText").await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Runs the body of a function in the page, and returns its result.
    pub(super) async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// Waits until a script returns true.
    pub(super) async fn holds(&self, what: &str, script: &str) {
        let holds = async || (self.run(script).await == true).then_some(());
        if let Err(error) = eventually(what, TIMEOUT, holds).await {
            panic!("{error}; the page: {}", self.page().await);
        }
    }

    /// Fails if a script failed, or the content security policy refused something.
    pub(super) async fn has_no_errors(&self) {
        assert_eq!(self.run("return window.errors").await, json!([]));
    }

    /// Stores a picture of the window in the folder of `SCREENSHOTS`, if it is set: for people who
    /// change how the dashboard looks.
    pub(super) async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("SCREENSHOTS") else {
            return;
        };
        tokio::time::sleep(Duration::from_millis(400)).await;
        let png = self.client.screenshot().await.unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        let file = std::path::Path::new(&folder).join(format!("{name}.png"));
        std::fs::write(file, png).unwrap();
    }
}
