//! What browsers ask before a web page may call us (CORS).

use std::time::Duration;

use axum::http::HeaderName;
use tower_http::cors::{AllowHeaders, AllowMethods, Any, CorsLayer};

/// How long a browser may rely on the answer.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Headers of answers that pages may read.
const EXPOSED: [HeaderName; 7] = [
    HeaderName::from_static("x-fal-request-id"),
    HeaderName::from_static("x-fal-error-type"),
    HeaderName::from_static("x-fal-request-timeout-type"),
    HeaderName::from_static("x-fal-served-from"),
    HeaderName::from_static("x-warmq-runner"),
    HeaderName::from_static("x-warmq-warm"),
    HeaderName::from_static("retry-after"),
];

/// Pages of any origin, with whatever headers they name. They bring no cookies, so nobody's login is lent to them.
pub(super) fn any() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED)
        .max_age(MAX_AGE)
}
