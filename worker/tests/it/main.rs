//! Integration tests of the worker on a real RabbitMQ and a real Redis, each test in its own
//! namespace. There is no router: the tests dispatch.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic fails the test, in helpers too"
)]

mod deliveries;
mod faults;
mod hangs;
mod harness;
mod model_server;
mod names;
mod outage;
mod pictures;
mod race;
mod refused_starts;
mod stop;
