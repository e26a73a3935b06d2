//! What every process of warmq needs.
//!
//! | module | contents |
//! | --- | --- |
//! | [`retry`] | delays between attempts, on `backoff` |
//! | [`shutdown`] | signals |
//! | [`telemetry`] | logs |
//! | [`tls`] | encrypted connections |
//! | [`clock`] | this machine's clock, and Redis' as far as it is known here |

pub mod clock;
pub mod retry;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
