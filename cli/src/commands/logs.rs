//! `warmq logs`

use std::time::Duration;

use tokio::time::Instant;
use warmq_types::http::StatusName;
use warmq_types::ids::{AppId, JobId};
use warmq_types::text::escape;

use super::known_job;
use crate::client::{Client, Error, LogEntry, pretty};
use crate::exit;

/// Pause before a broken connection is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// How long a router may be unreachable.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Prints a job's log; with `follow` until its end.
pub(super) async fn run(
    client: &Client,
    id: JobId,
    follow: bool,
    json: bool,
) -> anyhow::Result<u8> {
    let app = known_job(client, id).await?.record.spec.app;
    if follow {
        self::follow(client, (&app, id), json).await?;
        return Ok(exit::OK);
    }
    let lines = client.log(&app, id).await?.logs;
    match json {
        true => println!("{}", pretty(&lines)),
        false => lines.iter().for_each(|line| println!("{}", text(line))),
    }
    Ok(exit::OK)
}

/// Prints the lines as they arrive, also over restarts of the router.
async fn follow(client: &Client, (app, id): (&AppId, JobId), json: bool) -> Result<(), Error> {
    let mut printed = 0;
    let mut unreachable_since: Option<Instant> = None;
    loop {
        let before = printed;
        match follow_once(client, (app, id), &mut printed, json).await {
            Ok(StatusName::Completed) => return Ok(()),
            Err(error) if !matches!(error, Error::Unreachable { .. }) => return Err(error),
            broken => {
                if printed > before {
                    unreachable_since = None;
                }
                let since = *unreachable_since.get_or_insert_with(Instant::now);
                if let Err(error) = broken
                    && since.elapsed() > RECONNECT_TIMEOUT
                {
                    return Err(error);
                }
            }
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// Follows a job over one connection. Each begins with the whole log, of which the first `printed`
/// lines are skipped. Returns the last status.
async fn follow_once(
    client: &Client,
    (app, id): (&AppId, JobId),
    printed: &mut usize,
    json: bool,
) -> Result<StatusName, Error> {
    let mut stream = client.follow_log(app, id).await?;
    let (mut last, mut received) = (StatusName::InQueue, 0);
    while let Some(status) = stream.next().await? {
        last = status.status;
        for line in &status.logs {
            received += 1;
            if received > *printed {
                *printed = received;
                println!("{}", if json { one_line(line) } else { text(line) });
            }
        }
    }
    Ok(last)
}

/// Formats `2026-11-22T08:02:01.123Z INFO  gpu-a: attempt 1 begins`.
fn text(line: &LogEntry) -> String {
    let LogEntry {
        timestamp,
        level,
        message,
        labels,
    } = line;
    let about = match &labels.runner {
        Some(runner) => format!("{runner}: "),
        None => String::new(),
    };
    let message = escape(message);
    format!(
        "{} {:<5} {about}{message}",
        escape(timestamp),
        escape(level)
    )
}

/// Formats a line as JSON, for programs that read line by line. Characters that terminals interpret
/// are escaped, as in all output.
fn one_line(line: &LogEntry) -> String {
    let lines = pretty(line);
    lines.lines().map(str::trim_start).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::LogLabels;

    #[test]
    fn a_line_is_one_line_in_both_formats() {
        let line = LogEntry {
            timestamp: "2026-11-22T08:02:01.123Z".to_owned(),
            level: "WARN".to_owned(),
            message: "bad\n  luck\u{1b}[2J".to_owned(),
            labels: LogLabels {
                runner: Some("gpu-a".parse().unwrap()),
            },
        };
        let expected = "2026-11-22T08:02:01.123Z WARN  gpu-a: bad\\n  luck\\u{1b}[2J";
        assert_eq!(text(&line), expected);
        let json = one_line(&line);
        assert!(!json.contains('\n') && !json.contains('\u{1b}'), "{json}");
        assert_eq!(serde_json::from_str::<LogEntry>(&json).unwrap(), line);
    }
}
