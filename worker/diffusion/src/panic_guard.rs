//! The boundary between torch and the rest of the program.
//!
//! tch panics on failed operations, including out of memory, and diffusers-rs asserts shapes. Both
//! panics stop here. A panic leaves the pipeline's tensors unchanged, since no operation writes to
//! a weight once it is loaded.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::Error;

/// Runs tensor code and maps a panic to an [`Error`].
pub(crate) fn guard<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|payload| Err(Error::torch(message(&*payload))))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("panicked without a message")
}
