//! Where the time of one job of warmq goes, by the log lines of router and workers.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use super::load::Load;
use super::outcome::{Execution, Observed};
use super::running::fleet;
use super::servers::Servers;
use super::warmq::Warmq;
use crate::routes::times::{Quantiles, Times};

/// Submissions per second.
const RATE: f64 = 100.0;

/// What router and workers log.
const LOG: &str = "info,warmq_router=debug,warmq_worker=debug";

/// The hops between the submission and the result: name, and the message at the end of all but the
/// last.
const HOPS: [(&str, Option<&str>); 9] = [
    ("request read, job recorded", Some("recorded a job")),
    (
        "published, at the dispatcher",
        Some("a job arrived at the dispatcher"),
    ),
    ("placed, runner claimed", Some("claimed a runner")),
    ("published, at the runner", Some("received a job")),
    ("shared queue left", Some("starting a job")),
    ("start recorded", Some("job started")),
    ("run, result stored", Some("job succeeded")),
    (
        "end published, at the router",
        Some("learned of a job's end"),
    ),
    ("result read, response sent", None),
];

/// The hops of the jobs of one measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hops {
    /// Submissions per second.
    pub rate: f64,
    /// Slots of each worker.
    pub slots: u32,
    /// The hops in order: name and duration.
    pub hops: Vec<(&'static str, Quantiles)>,
    /// From the intended submission to the result.
    pub total: Quantiles,
}

/// A line of a log, as far as it matters.
#[derive(Debug, Deserialize)]
struct Line {
    timestamp: String,
    fields: Fields,
}

#[derive(Debug, Deserialize)]
struct Fields {
    message: String,
    #[serde(rename = "job.id")]
    job: String,
}

/// The first time of each message about each job, Unix µs.
#[derive(Debug, Default)]
struct Logged(HashMap<(String, String), i64>);

impl Logged {
    /// Adds the lines of a log. Lines that are not about a job are skipped.
    fn add(&mut self, log: &str) {
        for line in log.lines() {
            let Ok(Line { timestamp, fields }) = serde_json::from_str(line) else {
                continue;
            };
            if let Ok(at) = DateTime::parse_from_rfc3339(&timestamp) {
                let first_us = (self.0.entry((fields.job, fields.message)))
                    .or_insert_with(|| at.timestamp_micros());
                *first_us = at.timestamp_micros().min(*first_us);
            }
        }
    }

    fn us(&self, job: &str, message: &str) -> Option<i64> {
        self.0.get(&(job.to_owned(), message.to_owned())).copied()
    }

    /// Returns the durations of a job's hops, ms; `None` if a message is missing.
    fn hops_ms(&self, job: &str, submitted_us: i64, result_us: i64) -> Option<Vec<f64>> {
        let mut last_us = submitted_us;
        let hop_ms = |(_, message): &(&str, Option<&str>)| {
            let us = match message {
                Some(message) => self.us(job, message)?,
                None => result_us,
            };
            let ms = (us - last_us) as f64 / 1000.0;
            last_us = us;
            Some(ms)
        };
        HOPS.iter().map(hop_ms).collect()
    }
}

/// Measures the hops of jobs that are submitted by HTTP for some `time`.
///
/// # Errors
/// A process does not start, or a job failed.
pub async fn measure(
    servers: &Servers,
    folder: &Path,
    slots: u32,
    time: Duration,
    seed: u64,
) -> anyhow::Result<Hops> {
    let warmq = Warmq::start(fleet(slots), servers, folder, Some(LOG)).await?;
    let driver = warmq.http_driver(0);
    let load = Load::poisson(RATE, time, seed)?;
    // Connects, and fills the caches.
    driver.run(&load).await?;
    let observed = driver.run(&load).await?;
    let mut logged = Logged::default();
    for log in warmq.logs() {
        logged.add(&std::fs::read_to_string(log)?);
    }
    warmq.stop().await?;
    servers.redis.flush().await?;
    Ok(summarise(&load, &observed, &logged, slots))
}

fn summarise(load: &Load, observed: &Observed, logged: &Logged, slots: u32) -> Hops {
    let mut hops = HOPS.map(|(name, _)| (name, Times::default()));
    let mut total = Times::default();
    for (number, job) in observed.jobs.iter().enumerate() {
        let Execution::Recorded(id) = job.execution else {
            continue;
        };
        let submitted_us = (observed.begun_us + load.intended_us(number)).cast_signed();
        let result_us = job.result_us.cast_signed();
        let Some(hops_ms) = logged.hops_ms(&id.to_string(), submitted_us, result_us) else {
            continue;
        };
        total.push(hops_ms.iter().sum());
        for ((_, times), ms) in hops.iter_mut().zip(hops_ms) {
            times.push(ms);
        }
    }
    Hops {
        rate: RATE,
        slots,
        hops: hops
            .iter()
            .map(|(name, times)| (*name, times.quantiles()))
            .collect(),
        total: total.quantiles(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::outcome::ObservedJob;
    use warmq_types::ids::JobId;

    /// A log in which each message follows its predecessor by as many ms as its number.
    fn log(id: JobId) -> String {
        let mut ms = 0;
        let messages = HOPS.iter().filter_map(|(_, message)| *message).enumerate();
        let lines = messages.map(|(number, message)| {
            ms += number + 1;
            format!(
                r#"{{"timestamp":"1970-01-01T00:00:00.{:06}Z","level":"DEBUG","fields":{{"message":"{message}","job.id":"{id}"}}}}"#,
                ms * 1000
            )
        });
        let mut lines: Vec<String> = lines.collect();
        lines.push(r#"{"timestamp":"1970-01-01T00:00:01Z","fields":{"message":"no job"}}"#.into());
        lines.push("no JSON".into());
        lines.join("\n")
    }

    #[test]
    fn each_hop_is_the_time_since_the_message_before() {
        let (id, unlogged) = (JobId::generate(), JobId::generate());
        let mut logged = Logged::default();
        logged.add(&log(id));
        let job = |id, result_us| ObservedJob {
            execution: Execution::Recorded(id),
            result_us,
        };
        let observed = Observed {
            begun_us: 0,
            submitted_us: 0,
            jobs: vec![job(id, 45_000), job(unlogged, 50_000)],
        };
        let load = Load::Arrivals(vec![Duration::ZERO; 2]);
        let hops = summarise(&load, &observed, &logged, 1);
        let p50_ms: Vec<f64> = hops.hops.iter().map(|(_, times)| times.p50_ms).collect();
        assert_eq!(p50_ms, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        assert_eq!((hops.total.count, hops.total.p50_ms), (1, 45.0));
    }
}
