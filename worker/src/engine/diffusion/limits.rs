//! Limits of a job's cost: pictures that take too long, and pictures that the device cannot hold.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use warmq_diffusion::{Stamp, Workload};
use warmq_types::job::JobError;

use super::input::FieldNames;

/// Limit of a job's pixels × steps × pictures: four of 1024×1024 in 256 steps, or one of 2048×2048
/// in the maximum of 200. A data center's GPU computes 10 to 20 million a second with SDXL or
/// FLUX.1, and thus needs one to two minutes.
const MAX_PIXEL_STEPS: u64 = 1 << 30;

/// Time for which a size is remembered that the device could not hold: another process may have
/// held the memory.
const EXCEEDED_SIZE_TTL: Duration = Duration::from_secs(600);

/// Returns the same limit for routers, which know no model's defaults: what an input omits counts
/// as little as it can.
pub(super) fn cost_keyword() -> Value {
    json!({
        "limit": MAX_PIXEL_STEPS,
        "factors": [
            {"fields": ["/steps", "/num_inference_steps"], "default": 1},
            {"fields": ["/num_images"], "default": 1},
            {"fields": ["/width", "/image_size/width"], "default": 8},
            {"fields": ["/height", "/image_size/height"], "default": 8},
            // A share of the steps, if there is a picture to start from.
            {"fields": ["/strength"], "default": 0.8},
        ],
    })
}

/// Checks a job's cost.
///
/// # Errors
/// A 422 that names the fields.
pub(super) fn check_cost(workload: &Workload) -> Result<(), JobError> {
    let cost = workload.pixel_steps();
    if cost <= MAX_PIXEL_STEPS {
        return Ok(());
    }
    let Workload {
        width,
        height,
        steps,
        num_images,
        ..
    } = workload;
    let message = format!(
        "width {width} × height {height} × steps {steps} × num_images {num_images} is {cost}, \
         and the limit is {MAX_PIXEL_STEPS}: lower one of them"
    );
    Err(JobError::field(&["steps"], "out_of_range", message))
}

/// Sizes that the device could not hold with no other model loaded, by model.
#[derive(Debug, Default)]
pub(super) struct ExceededSizes {
    known: BTreeMap<String, Vec<Exceeded>>,
}

#[derive(Debug)]
struct Exceeded {
    stamp: Stamp,
    pixels: u64,
    is_guided: bool,
    since: Instant,
}

impl Exceeded {
    /// Returns whether this workload needs at least as much memory. Steps and pictures follow each
    /// other: their numbers need none.
    fn covers(&self, workload: &Workload) -> bool {
        workload.pixels() >= self.pixels && (workload.is_guided || !self.is_guided)
    }

    fn is_fresh(&self, stamp: &Stamp, now: Instant) -> bool {
        self.stamp == *stamp && now.saturating_duration_since(self.since) < EXCEEDED_SIZE_TTL
    }
}

impl ExceededSizes {
    /// Records that the device could not hold this workload, and returns the job's error.
    pub(super) fn record(
        &mut self,
        model: &str,
        stamp: &Stamp,
        workload: &Workload,
        names: FieldNames,
        now: Instant,
    ) -> JobError {
        let known = self.known.entry(model.to_owned()).or_default();
        known.retain(|old| old.is_fresh(stamp, now));
        let pixels = workload.pixels();
        let is_guided = workload.is_guided;
        // At most two are needed: the smallest with guidance, and the smallest without.
        if !known.iter().any(|old| old.covers(workload)) {
            known.retain(|old| old.pixels < pixels || (is_guided && !old.is_guided));
            known.push(Exceeded {
                stamp: stamp.clone(),
                pixels,
                is_guided,
                since: now,
            });
        }
        error(model, workload, names)
    }

    /// Checks that the device is not known to be too small for this workload.
    ///
    /// # Errors
    /// A 422 that names the size.
    pub(super) fn check(
        &self,
        model: &str,
        stamp: &Stamp,
        workload: &Workload,
        names: FieldNames,
        now: Instant,
    ) -> Result<(), JobError> {
        let mut known = self.known.get(model).into_iter().flatten();
        match known.any(|known| known.is_fresh(stamp, now) && known.covers(workload)) {
            true => Err(error(model, workload, names)),
            false => Ok(()),
        }
    }
}

fn error(model: &str, workload: &Workload, names: FieldNames) -> JobError {
    let message = format!(
        "{} x {} pixels exceed the memory of the runner's device with model '{model}': lower \
         width or height",
        workload.width, workload.height
    );
    JobError::field(&names.path("width"), "out_of_range", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::diffusion::input::Input;
    use crate::engine::testing::job;
    use proptest::prelude::*;
    use serde_json::json;

    fn workload(width: u32, height: u32, is_guided: bool) -> Workload {
        Workload {
            width,
            height,
            steps: 20,
            num_images: 1,
            is_guided,
        }
    }

    fn names() -> FieldNames {
        let job = job("m", json!({"prompt": "x"}));
        Input::read(&job).unwrap().field_names()
    }

    /// The stamps of a model before and after a change.
    fn stamps() -> [Stamp; 2] {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m");
        std::fs::create_dir(&model).unwrap();
        let catalog = warmq_diffusion::Catalog::open(folder.path()).unwrap();
        ["{}", "{ }"].map(|manifest| {
            std::fs::write(model.join("manifest.json"), manifest).unwrap();
            catalog.stamp("m").unwrap()
        })
    }

    #[test]
    fn a_job_beyond_the_cost_limit_is_refused_by_the_names_of_its_fields() {
        let at_the_limit = Workload {
            steps: 256,
            num_images: 4,
            ..workload(1024, 1024, true)
        };
        assert_eq!(check_cost(&at_the_limit), Ok(()));
        let beyond = Workload {
            steps: 257,
            ..at_the_limit
        };
        let error = check_cost(&beyond).unwrap_err();
        assert_eq!(error.status, 422);
        assert_eq!(error.detail[0].loc, ["body", "steps"]);
        for field in ["width 1024", "height 1024", "steps 257", "num_images 4"] {
            assert!(error.message.contains(field), "{error:?}");
        }
    }

    #[test]
    fn a_size_that_exceeded_the_device_is_refused_for_a_while_and_smaller_ones_are_not() {
        let ([stamp, changed], start) = (stamps(), Instant::now());
        let mut sizes = ExceededSizes::default();
        let error = sizes.record("m", &stamp, &workload(1024, 768, true), names(), start);
        assert_eq!(
            (error.status, &error.detail[0].loc[1]),
            (422, &json!("width"))
        );
        assert!(error.message.contains("1024 x 768"), "{error:?}");
        let check = |model: &str, stamp: &Stamp, workload: Workload, after: Duration| {
            sizes
                .check(model, stamp, &workload, names(), start + after)
                .is_ok()
        };
        let soon = Duration::from_secs(1);
        assert!(!check("m", &stamp, workload(1024, 768, true), soon));
        assert!(!check("m", &stamp, workload(1024, 1024, true), soon));
        assert!(check("m", &stamp, workload(768, 768, true), soon));
        assert!(check("m", &stamp, workload(1024, 768, false), soon));
        assert!(check("other", &stamp, workload(1024, 768, true), soon));
        assert!(check("m", &changed, workload(1024, 768, true), soon));
        assert!(check(
            "m",
            &stamp,
            workload(1024, 768, true),
            EXCEEDED_SIZE_TTL
        ));
    }

    proptest! {
        #[test]
        fn what_exceeded_the_device_is_refused_and_little_is_remembered(
            exceeded in prop::collection::vec((1u32..64, any::<bool>()), 1..12),
            asked in (1u32..64, any::<bool>()),
        ) {
            let ([stamp, _], now) = (stamps(), Instant::now());
            let mut sizes = ExceededSizes::default();
            for &(width, is_guided) in &exceeded {
                sizes.record("m", &stamp, &workload(width, 8, is_guided), names(), now);
            }
            let (width, is_guided) = asked;
            let needs_as_much = exceeded.iter().any(|&(least, was_guided)| {
                width >= least && (is_guided || !was_guided)
            });
            let asked = workload(width, 8, is_guided);
            let checked = sizes.check("m", &stamp, &asked, names(), now);
            prop_assert_eq!(checked.is_err(), needs_as_much);
            prop_assert!(sizes.known["m"].len() <= 2);
        }
    }
}
