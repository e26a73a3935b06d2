//! `warmq top`

use std::io::IsTerminal;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use warmq_types::ids::AppId;

use crate::client::{Client, Error, pretty};
use crate::exit::{self, Usage};
use crate::top::screen::{Input, Screen, inputs};
use crate::top::snapshot::Snapshot;
use crate::top::view::{Display, draw};

/// Shows runners, queues and jobs until a key or a signal ends it. `json`: prints them once.
pub(super) async fn run(
    client: &Client,
    interval_s: f64,
    app: Option<&AppId>,
    json: bool,
) -> anyhow::Result<u8> {
    let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if !json && !is_terminal {
        let remedy = "use --json, or warmq apps, runners and jobs";
        return Err(Usage(format!("top requires a terminal: {remedy}")).into());
    }
    // Errors of settings and keys are printed before the screen is taken.
    let snapshot = Snapshot::read(client, app).await?;
    if json {
        println!("{}", pretty(&snapshot));
        return Ok(exit::OK);
    }
    let (sender, snapshots) = mpsc::channel(1);
    let interval = Duration::from_secs_f64(interval_s);
    tokio::spawn(poll(client.clone(), app.cloned(), interval, sender));
    let display = Display {
        url: client.url().to_owned(),
        ..Display::default()
    };
    live((snapshot, display), snapshots).await?;
    Ok(exit::OK)
}

/// Reads the state again and again until the receiver is dropped.
async fn poll(
    client: Client,
    app: Option<AppId>,
    interval: Duration,
    snapshots: mpsc::Sender<Result<Snapshot, Error>>,
) {
    loop {
        tokio::time::sleep(interval).await;
        let snapshot = Snapshot::read(&client, app.as_ref()).await;
        if snapshots.send(snapshot).await.is_err() {
            return;
        }
    }
}

async fn live(
    (mut snapshot, mut display): (Snapshot, Display),
    mut snapshots: mpsc::Receiver<Result<Snapshot, Error>>,
) -> anyhow::Result<()> {
    // Before the screen is taken, so that no signal ends the process without its restoration.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    let mut screen = Screen::take()?;
    let mut inputs = inputs();
    loop {
        screen.draw(|frame| draw(frame, &snapshot, &mut display))?;
        tokio::select! {
            read = snapshots.recv() => match read {
                Some(Ok(read)) => {
                    snapshot = read;
                    display.problem = None;
                }
                // The router may come back.
                Some(Err(error)) if exit::is_temporary(&error) => {
                    display.problem = Some(error.to_string());
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            input = inputs.recv() => match input {
                Some(Input::Scroll(rows)) => display.scroll_by(rows),
                Some(Input::Redraw) => {}
                Some(Input::Quit) | None => return Ok(()),
            },
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
        }
    }
}
