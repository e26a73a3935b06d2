//! Parts that every process of warmq needs.
//!
//! | module | contents |
//! | --- | --- |
//! | [`retry`] | delays between attempts, on `backoff` |
//! | [`shutdown`] | signals |
//! | [`telemetry`] | logs |
//! | [`tls`] | encrypted connections |
//! | [`clock`] | this machine's clock, and an estimate of Redis' |

pub mod clock;
pub mod retry;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
