//! What stands between a client and a model server: the queue, and a router app.
//!
//! | module | measures |
//! | --- | --- |
//! | [`model_server`] | what the queue adds to a job of a model server |
//! | [`router_app`] | what a router app of fal's package adds to the job that it submits |

mod model_server;
mod router_app;

use std::time::Duration;

use anyhow::Context;
use warmq_testkit::{Testbed, eventually};
use warmq_types::ids::AppId;

use crate::args::HttpOptions;

/// Timeout for a runner to become idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Measures and prints.
pub fn print(options: &HttpOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(async {
        model_server::measure(options).await?;
        match &options.python {
            Some(python) => router_app::measure(options, python).await,
            None => Ok(()),
        }
    })
}

/// Waits until a runner of the app is idle.
async fn until_idle(testbed: &Testbed, app: &str) -> anyhow::Result<()> {
    let app = AppId::parse(app)?;
    let idle = eventually("the runner is idle", IDLE_TIMEOUT, async || {
        let runners = testbed.store().runners().list(&app).await.ok()?;
        runners.iter().any(|runner| runner.idle).then_some(())
    });
    Ok(idle.await?)
}
