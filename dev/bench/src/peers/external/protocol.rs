//! The protocol between the benchmark and the driver of a peer, in `dev/bench/peers`.
//!
//! The driver connects to the address in `BENCH_DRIVER` by TCP. Both sides send lines of JSON; the
//! driver answers each line with one line, and ends when the connection ends. Times are Unix µs.
//!
//! - `{"name": "Celery 5.7.0"}`, the driver's first line: it is connected to its servers.
//! - `{"burst": 2000}`, from the benchmark: submit as many no-op jobs as fast as possible, then
//!   await all results.
//! - `{"at_us": [0, 913]}`, from the benchmark: submit a job at each offset from a begin soon,
//!   whether or not earlier ones have ended, and await all results.
//! - `{"begun_us": 5, "submitted_us": 7, "jobs": [[6, 8]]}`, the driver's answer to both: the
//!   begin, the acceptance of the last submission, and for each job, in order of submission, its
//!   start by its own result, and when the driver had the result.
//!
//! A job's function does nothing but return its time. Servers are in `BENCH_AMQP_URL` and
//! `BENCH_REDIS_URL`.

use std::net::SocketAddr;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::peers::load::Load;
use crate::peers::outcome::{Execution, Observed, ObservedJob};

/// A load, as sent to a driver.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Request {
    Burst { burst: usize },
    Arrivals { at_us: Vec<u64> },
}

#[derive(Debug, Deserialize)]
struct Greeting {
    name: String,
}

/// What a driver observed, as received.
#[derive(Debug, Deserialize)]
struct Response {
    begun_us: u64,
    submitted_us: u64,
    jobs: Vec<(u64, u64)>,
}

/// A port for one driver.
pub struct DriverPort(TcpListener);

/// A connected driver.
pub struct DriverConnection {
    /// Name and version of its system.
    pub name: String,
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl DriverPort {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// No port is free.
    pub async fn open() -> anyhow::Result<Self> {
        Ok(Self(TcpListener::bind("127.0.0.1:0").await?))
    }

    /// Returns the address for `BENCH_DRIVER`.
    ///
    /// # Errors
    /// The system does not report it.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    /// Waits for the driver.
    ///
    /// # Errors
    /// The first connection sends no name.
    pub async fn accept(self) -> anyhow::Result<DriverConnection> {
        let (stream, _) = self.0.accept().await?;
        let (reader, writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let Greeting { name } = receive(&mut lines).await?;
        Ok(DriverConnection {
            name,
            lines,
            writer,
        })
    }
}

impl DriverConnection {
    /// Has the driver execute a load.
    ///
    /// # Errors
    /// The driver ended.
    pub async fn run(&mut self, load: &Load) -> anyhow::Result<Observed> {
        let request = match load {
            Load::Burst(jobs) => Request::Burst { burst: *jobs },
            Load::Arrivals(_) => Request::Arrivals {
                at_us: (0..load.jobs()).map(|n| load.intended_us(n)).collect(),
            },
        };
        let line = serde_json::to_string(&request)? + "\n";
        self.writer.write_all(line.as_bytes()).await?;
        let response: Response = receive(&mut self.lines).await?;
        let jobs = response.jobs.into_iter();
        Ok(Observed {
            begun_us: response.begun_us,
            submitted_us: response.submitted_us,
            jobs: jobs
                .map(|(started_us, result_us)| ObservedJob {
                    execution: Execution::At(started_us),
                    result_us,
                })
                .collect(),
        })
    }
}

async fn receive<T: for<'a> Deserialize<'a>>(
    lines: &mut Lines<BufReader<OwnedReadHalf>>,
) -> anyhow::Result<T> {
    let line = lines.next_line().await?.context("the driver ended")?;
    Ok(serde_json::from_str(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn a_load_is_one_line_and_so_is_what_the_driver_observed() {
        let port = DriverPort::open().await.unwrap();
        let address = port.address().unwrap();
        let driver = tokio::spawn(async move {
            let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
            let mut line = String::new();
            stream.write_all(b"{\"name\": \"a peer\"}\n").await.unwrap();
            stream.read_line(&mut line).await.unwrap();
            let answer = b"{\"begun_us\": 5, \"submitted_us\": 7, \"jobs\": [[6, 8]]}\n";
            stream.write_all(answer).await.unwrap();
            line
        });
        let mut connection = port.accept().await.unwrap();
        assert_eq!(connection.name, "a peer");
        let load = Load::Arrivals(vec![Duration::from_micros(913)]);
        let observed = connection.run(&load).await.unwrap();
        assert_eq!((observed.begun_us, observed.submitted_us), (5, 7));
        assert!(matches!(
            observed.jobs[..],
            [ObservedJob {
                execution: Execution::At(6),
                result_us: 8
            }]
        ));
        assert_eq!(driver.await.unwrap(), "{\"at_us\":[913]}\n");
        assert!(connection.run(&load).await.is_err());
    }
}
