//! Bounds the concurrent work on large JSON: parsing 10 MiB takes a few hundred milliseconds of a
//! processor, and up to thirty times its size of memory. Leases, heartbeats and small requests are
//! served meanwhile.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warmq_types::job::MAX_INLINE_INPUT_BYTES;

/// Estimated size of a number, a boolean or an empty value, bytes.
const SCALAR_BYTES: usize = 8;

/// Grants permits for work on large JSON. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LargeJson(Arc<Semaphore>);

impl Default for LargeJson {
    /// At most half of the processors work on large JSON.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new((processors / 2).max(1))))
    }
}

/// Permission to work on JSON, held until the resulting large values are dropped.
#[derive(Debug)]
pub struct LargeJsonPermit(Option<OwnedSemaphorePermit>);

impl LargeJson {
    /// Acquires a permit for work on `bytes` of JSON, at once if they are few.
    pub async fn permit(&self, bytes: usize) -> LargeJsonPermit {
        match bytes > MAX_INLINE_INPUT_BYTES {
            // The semaphore is never closed.
            true => LargeJsonPermit(Arc::clone(&self.0).acquire_owned().await.ok()),
            false => LargeJsonPermit(None),
        }
    }

    /// Acquires a permit for work on all of `values`.
    pub async fn permit_for<'v>(
        &self,
        values: impl IntoIterator<Item = &'v Value>,
    ) -> LargeJsonPermit {
        let mut left = MAX_INLINE_INPUT_BYTES;
        let fit = values.into_iter().all(|value| fits(value, &mut left));
        let bytes = if fit { 0 } else { usize::MAX };
        self.permit(bytes).await
    }
}

impl LargeJsonPermit {
    /// Runs `work`; if it is large, other tasks of this thread move to other threads meanwhile.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        match self {
            Self(Some(_)) => tokio::task::block_in_place(work),
            Self(None) => work(),
        }
    }
}

/// Returns whether the size of `value` is at most `left`, and subtracts it. Stops as soon as it is
/// exceeded.
fn fits(value: &Value, left: &mut usize) -> bool {
    let mut take = |bytes: usize| match left.checked_sub(bytes) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    };
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => take(SCALAR_BYTES),
        Value::String(text) => take(text.len().max(SCALAR_BYTES)),
        Value::Array(items) => take(SCALAR_BYTES) && items.iter().all(|item| fits(item, left)),
        Value::Object(fields) => {
            take(SCALAR_BYTES)
                && (fields.iter()).all(|(name, field)| {
                    let named = left.checked_sub(name.len());
                    *left = named.unwrap_or(0);
                    named.is_some() && fits(field, left)
                })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn large_values_wait_for_a_permit_and_small_ones_do_not() {
        let large = LargeJson(Arc::new(Semaphore::new(1)));
        let text = Value::from("x".repeat(MAX_INLINE_INPUT_BYTES / 2 + 1));
        let numbers = Value::from(vec![0; MAX_INLINE_INPUT_BYTES / SCALAR_BYTES]);
        assert!(large.permit(MAX_INLINE_INPUT_BYTES).await.0.is_none());
        assert!(
            large
                .permit_for([&text, &json!({"a": [1]})])
                .await
                .0
                .is_none()
        );
        let permit = large.permit_for([&text, &text]).await;
        assert!(permit.0.is_some());
        {
            let mut next = std::pin::pin!(large.permit_for([&numbers]));
            assert!(futures::poll!(next.as_mut()).is_pending());
            drop(permit);
            assert!(next.await.0.is_some());
        }
        let names = json!({"x".repeat(MAX_INLINE_INPUT_BYTES): 1});
        assert!(large.permit_for([&names]).await.0.is_some());
    }
}
