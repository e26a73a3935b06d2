//! Targets of policy `warm`: workloads, and required measures.

use crate::args::{Options, PolicyName};

/// One row: a workload and the targets.
pub struct Row {
    /// Name.
    pub name: &'static str,
    change: fn(&mut Options),
    /// Targets.
    pub wanted: Wanted,
}

impl Row {
    /// Returns the row's options under a policy.
    pub fn options(&self, policy: PolicyName, seed: u64) -> Options {
        let mut options = base(policy, seed);
        (self.change)(&mut options);
        options
    }
}

/// Targets of a row; throughput is a minimum, the others are maxima.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Model loads per job.
    pub swaps_per_job: Option<f64>,
    /// Mean time from arrival to end, s.
    pub mean_s: Option<f64>,
    /// Its 99th percentile, s.
    pub p99_s: Option<f64>,
    /// Part of the fleet's warm capacity.
    pub throughput: Option<f64>,
}

fn open(swaps_per_job: f64, mean_s: f64, p99_s: f64) -> Wanted {
    Wanted {
        swaps_per_job: Some(swaps_per_job),
        mean_s: Some(mean_s),
        p99_s: Some(p99_s),
        throughput: None,
    }
}

fn mean(mean_s: f64) -> Wanted {
    Wanted {
        mean_s: Some(mean_s),
        ..Wanted::default()
    }
}

fn saturated(throughput: f64) -> Wanted {
    Wanted {
        throughput: Some(throughput),
        ..Wanted::default()
    }
}

fn load(options: &mut Options, models: u32, rho: f64) {
    options.models = models;
    options.rho = rho;
}

fn closed(options: &mut Options, models: u32) {
    options.models = models;
    options.closed = true;
}

/// Returns the rows: N = 32, K = 3, S = 2 s, L = 10 s, Zipf 0.9, 60,000 jobs and a cold fleet,
/// unless the row changes it.
#[rustfmt::skip]
pub fn rows() -> Vec<Row> {
    vec![
        Row { name: "M=24 load .70", change: |o| load(o, 24, 0.70), wanted: open(0.001, 2.3, 6.2) },
        Row { name: "M=48 load .50", change: |o| load(o, 48, 0.50), wanted: open(0.005, 2.35, 7.5) },
        Row { name: "M=48 load .70", change: |o| load(o, 48, 0.70), wanted: open(0.003, 2.7, 9.0) },
        Row { name: "M=48 load .85", change: |o| load(o, 48, 0.85), wanted: open(0.003, 3.3, 11.0) },
        Row { name: "M=48 load .95", change: |o| load(o, 48, 0.95), wanted: open(0.005, 4.8, 16.0) },
        Row { name: "M=96 load .50", change: |o| load(o, 96, 0.50), wanted: open(0.08, 4.5, 16.5) },
        Row { name: "M=96 load .70", change: |o| load(o, 96, 0.70), wanted: open(0.07, 7.8, 24.0) },
        Row { name: "M=192 load .30", change: |o| load(o, 192, 0.30), wanted: open(0.24, 6.6, 17.5) },
        Row { name: "M=192 load .50", change: |o| load(o, 192, 0.50), wanted: open(0.21, 12.8, 38.0) },
        Row { name: "saturated M=48", change: |o| closed(o, 48), wanted: saturated(0.96) },
        Row { name: "saturated M=96", change: |o| closed(o, 96), wanted: saturated(0.77) },
        Row { name: "saturated M=192", change: |o| closed(o, 192), wanted: saturated(0.52) },
        Row {
            name: "stampede M=48 load .50",
            change: |o| { load(o, 48, 0.50); o.jobs = 1500; o.drop = 0.0; },
            wanted: Wanted { swaps_per_job: Some(0.09), ..mean(5.2) },
        },
        Row {
            name: "drift 300 s M=48 load .60",
            change: |o| { load(o, 48, 0.60); o.drift_s = Some(300.0); },
            wanted: mean(3.5),
        },
        Row {
            name: "failures M=48 load .60",
            change: |o| { load(o, 48, 0.60); o.mtbf_s = Some(1800.0); o.repair_s = 60.0; },
            wanted: mean(3.3),
        },
        Row {
            name: "N=256 M=384 load .70",
            change: |o| { load(o, 384, 0.70); o.runners = 256; },
            wanted: mean(2.7),
        },
    ]
}

/// Returns the options that each row changes.
pub fn base(policy: PolicyName, seed: u64) -> Options {
    Options {
        policy,
        runners: 32,
        slots: 3,
        models: 48,
        rho: 0.7,
        load_ratio: 5.0,
        ram_slots: 0,
        ram_load_ratio: 0.5,
        ignore_tiers: false,
        zipf: 0.9,
        jobs: 60_000,
        seed,
        service_s: 2.0,
        drop: 0.25,
        mmpp: false,
        batch: 1,
        drift_s: None,
        mtbf_s: None,
        repair_s: 60.0,
        view_delay_ms: 0.0,
        closed: false,
        trace: None,
        json: false,
    }
}
