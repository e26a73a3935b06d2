//! What a worker promises, on a real RabbitMQ and a real Redis, each test in a namespace of its own. There is no router:
//! the tests dispatch.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's panic is its verdict, in its helpers too"
)]

mod deliveries;
mod faults;
mod hangs;
mod harness;
mod names;
mod outage;
mod pictures;
mod race;
mod start;
mod stop;
