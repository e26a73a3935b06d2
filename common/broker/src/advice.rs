//! Remedies for errors of the broker.

use std::time::Duration;

/// Formats an error, with the remedy if a setting causes it.
pub fn explained(error: &lapin::Error) -> String {
    with_advice(error.to_string())
}

fn with_advice(text: String) -> String {
    match consumer_timeout(&text) {
        Some(timeout) => format!(
            "{text}. RabbitMQ's consumer_timeout is {0} ms: start all routers and workers with --consumer-timeout {0}ms \
             (WARMQ_CONSUMER_TIMEOUT), or raise it there",
            timeout.as_millis()
        ),
        None => text,
    }
}

/// Returns the broker's `consumer_timeout`, ms, if `text` complains about it.
pub fn consumer_timeout(text: &str) -> Option<Duration> {
    let (_, rest) = text.split_once("Timeout value used: ")?;
    let (ms, _) = rest.split_once(" ms")?;
    ms.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_unlike_ours_is_answered_with_the_setting() {
        let text = "PRECONDITION_FAILED - delivery acknowledgement on channel 3 timed out. Timeout value used: 6000 ms. \
                    This timeout value can be configured, see consumers doc guide to learn more";
        assert_eq!(consumer_timeout(text), Some(Duration::from_secs(6)));
        let advised = with_advice(text.to_owned());
        assert!(advised.contains("--consumer-timeout 6000ms"), "{advised}");
        assert_eq!(consumer_timeout("NOT_FOUND - no queue"), None);
    }
}
