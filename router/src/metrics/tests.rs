//! Metrics that a scrape returns.

use warmq_policy::work::HeldWork;
use warmq_store::{Counts, FreeRunner, Ran, RunnerEvent};
use warmq_types::fault::FaultKind;
use warmq_types::hint::Hint;
use warmq_types::ids::{Epoch, RunnerId};
use warmq_types::job::{Decision, Target, Timings};

use super::*;

fn hint(text: &str) -> Hint {
    Hint::parse(text).unwrap()
}

fn app(metrics: &Metrics) -> AppMetrics {
    metrics.app(&AppId::parse("a/b").unwrap())
}

fn ran(text: &str, load_ms: u64) -> RunnerEvent {
    let timings = Timings {
        warm: load_ms == 0,
        load_ms,
        from_ram: false,
        run_ms: 10,
    };
    RunnerEvent::Freed(FreeRunner {
        runner: RunnerId::parse("r").unwrap(),
        epoch: Epoch(1),
        frees: 1,
        slots: 1,
        hints: Vec::new(),
        ram_slots: 0,
        ram_hints: Vec::new(),
        ran: Some(Ran {
            hint: hint(text),
            timings,
        }),
        models: None,
    })
}

fn sent(warm: bool, held_ms: u64) -> Decision {
    Decision {
        policy: "warm".to_owned(),
        target: Target::Runner {
            runner: RunnerId::parse("r").unwrap(),
        },
        warm,
        tier: None,
        warm_candidates: Vec::new(),
        blank_candidates: Vec::new(),
        idle_runners: 1,
        holders: Some(1),
        predicted_wait_ms: None,
        held_ms,
        refused_claims: 0,
        reason: String::new(),
    }
}

/// Asserts that the page contains exactly this line.
fn assert_line(metrics: &Metrics, line: &str) {
    let page = metrics.page();
    assert!(page.lines().any(|found| found == line), "{line}\n{page}");
}

#[test]
fn a_job_that_was_held_and_then_warm_counts_as_an_avoided_swap() {
    let metrics = Metrics::new().unwrap();
    let app = app(&metrics);
    app.runner_event(&ran("m", 700));
    app.runner_event(&ran("m", 0));
    for decision in [sent(true, 0), sent(false, 300), sent(true, 300)] {
        app.dispatched(Some(&hint("m")), &decision);
    }
    // Held as well, but it avoids no swap.
    app.dispatched(None, &sent(true, 300));
    for line in [
        r#"warmq_cold_loads_total{app="a/b",hint="m"} 1"#,
        r#"warmq_warm_hits_total{app="a/b",hint="m"} 1"#,
        r#"warmq_load_seconds_bucket{app="a/b",hint="m",le="0.5"} 0"#,
        r#"warmq_load_seconds_bucket{app="a/b",hint="m",le="1"} 1"#,
        r#"warmq_load_seconds_sum{app="a/b",hint="m"} 0.7"#,
        r#"warmq_hold_seconds_count{app="a/b",hint="m"} 2"#,
        r#"warmq_hold_seconds_count{app="a/b",hint=""} 1"#,
        r#"warmq_swaps_avoided_total{app="a/b",hint="m"} 1"#,
        r#"warmq_dispatched_total{app="a/b",target="runner"} 4"#,
        "# TYPE warmq_hold_seconds histogram",
        "# TYPE warmq_dispatched_total counter",
    ] {
        assert_line(&metrics, line);
    }
}

#[test]
fn webhooks_are_counted_by_outcome() {
    let metrics = Metrics::new().unwrap();
    let app = AppId::parse("a/b").unwrap();
    for outcome in ["retried", "retried", "delivered"] {
        metrics.webhook(&app, outcome);
    }
    assert_line(
        &metrics,
        r#"warmq_webhooks_total{app="a/b",outcome="retried"} 2"#,
    );
    assert_line(
        &metrics,
        r#"warmq_webhooks_total{app="a/b",outcome="delivered"} 1"#,
    );
}

#[test]
fn every_metric_has_a_suffix_and_a_help_line() {
    for metric in names::METRICS.counters {
        assert!(metric.name.ends_with("_total"), "{}", metric.name);
    }
    for metric in names::METRICS.histograms {
        assert!(metric.name.ends_with("_seconds"), "{}", metric.name);
    }
    let metrics = Metrics::new().unwrap();
    let _gauges = app(&metrics).lead();
    assert_line(
        &metrics,
        "# HELP warmq_idle_runners Runners that can be claimed now.",
    );
}

#[test]
fn faults_of_runners_are_counted_by_reason() {
    let metrics = Metrics::new().unwrap();
    let app = app(&metrics);
    let faulted = RunnerEvent::Faulted {
        runner: RunnerId::parse("r").unwrap(),
        epoch: Epoch(1),
        kind: FaultKind::Storage,
    };
    app.runner_event(&faulted);
    app.runner_event(&faulted);
    assert_line(
        &metrics,
        r#"warmq_runner_faults_total{app="a/b",reason="storage"} 2"#,
    );
}

#[test]
fn the_gauges_of_a_former_leader_are_zero() {
    let metrics = Metrics::new().unwrap();
    let gauges = app(&metrics).lead();
    let counts = Counts {
        live: 3,
        faulty: 1,
        draining: 0,
        idle: 2,
        queued: 7,
    };
    let held = HeldWork {
        jobs: 5,
        total_s: 20.0,
        run_s: 1.0,
    };
    gauges.show(held, counts);
    assert_line(&metrics, r#"warmq_leader{app="a/b"} 1"#);
    assert_line(&metrics, r#"warmq_held_jobs{app="a/b"} 5"#);
    assert_line(&metrics, r#"warmq_queued_jobs{app="a/b"} 7"#);
    assert_line(&metrics, r#"warmq_seconds_of_work_pending{app="a/b"} 28"#);
    assert_line(&metrics, r#"warmq_faulty_runners{app="a/b"} 1"#);
    drop(gauges);
    assert_line(&metrics, r#"warmq_leader{app="a/b"} 0"#);
    assert_line(&metrics, r#"warmq_idle_runners{app="a/b"} 0"#);
    assert_line(&metrics, r#"warmq_live_runners{app="a/b"} 0"#);
}

#[test]
fn hostile_hints_are_escaped_and_distinct() {
    let metrics = Metrics::new().unwrap();
    let app = app(&metrics);
    for (text, label) in [
        (r#"a"b"#, r#"a\"b"#),
        (r#"a\"b"#, r#"a\\\"b"#),
        (r"a\b", r"a\\b"),
        (r"a\\b", r"a\\\\b"),
        (r"a\", r"a\\"),
        ("a\nb", r"a\nb"),
        ("a\\\nb", r"a\\\nb"),
        (r"a\nb", r"a\\nb"),
        ("模型 {x=\"y\"} 1", r#"模型 {x=\"y\"} 1"#),
    ] {
        app.runner_event(&ran(text, 0));
        let line = format!(r#"warmq_warm_hits_total{{app="a/b",hint="{label}"}} 1"#);
        assert_line(&metrics, &line);
    }
}

#[test]
fn thousands_of_hints_lead_to_a_hundred_series_and_one_for_the_others() {
    let metrics = Metrics::new().unwrap();
    let app = app(&metrics);
    for number in 0..5000 {
        let name = format!("m{number}");
        app.refused(Some(&hint(&name)));
        app.runner_event(&ran(&name, 0));
    }
    let page = metrics.page();
    let series = |metric| page.lines().filter(|line| line.starts_with(metric)).count();
    assert_eq!(series("warmq_warm_hits_total{"), labels::OWN_LABELS + 1);
    assert_eq!(series("warmq_refused_claims_total{"), 1);
    assert_line(
        &metrics,
        r#"warmq_warm_hits_total{app="a/b",hint="other"} 4900"#,
    );
}

#[test]
fn the_wanted_number_of_a_former_leader_is_zero_and_failed_calls_are_counted() {
    let metrics = Metrics::new().unwrap();
    let app = app(&metrics);
    let wanted = app.wanted_runners();
    wanted.show(3);
    assert_line(&metrics, r#"warmq_wanted_runners{app="a/b"} 3"#);
    drop(wanted);
    assert_line(&metrics, r#"warmq_wanted_runners{app="a/b"} 0"#);
    app.scale_hook_failed();
    app.scale_hook_failed();
    assert_line(&metrics, r#"warmq_scale_hook_failures_total{app="a/b"} 2"#);
}
