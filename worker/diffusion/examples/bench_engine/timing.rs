//! What is measured, and how this engine is.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use warmq_diffusion::{Device, Latents, Observer, Pipeline, Request};

use crate::models;

/// A picture to time.
#[derive(Debug, Clone, Copy)]
pub struct Picture {
    pub steps: u32,
    /// Pixels along a side [default: the model's].
    pub side: Option<u32>,
}

/// Times of one process. bench/peer.py prints the same fields.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Timing {
    pub load_s: f64,
    /// Until the first step: the text is encoded.
    pub text_s: f64,
    /// Median of all steps but the first, which warms up.
    pub step_s: f64,
    /// From the last step to the picture.
    pub decode_s: f64,
    pub picture_s: f64,
    /// Of the process on a CPU, of tensors on a GPU.
    pub peak_bytes: u64,
}

/// Records when each step and the decoding started.
struct Clock {
    device: Device,
    times: Vec<Instant>,
}

impl Clock {
    fn record(&mut self) {
        self.device.synchronize();
        self.times.push(Instant::now());
    }
}

impl Observer for Clock {
    fn step(&mut self, _step: u32, _steps: u32) -> ControlFlow<()> {
        self.record();
        ControlFlow::Continue(())
    }

    fn latents(&mut self, _latents: Latents) {
        self.record();
    }
}

/// Times a model in this process.
pub fn once(device: Device, threads: usize, folder: &Path, of: Picture) -> anyhow::Result<Timing> {
    warmq_diffusion::set_threads(threads);
    let manifest = models::manifest(folder)?;
    let start = Instant::now();
    let pipeline = Pipeline::load(&manifest, &device, &mut |_| {})?;
    device.synchronize();
    let load_s = start.elapsed().as_secs_f64();

    let request = Request {
        prompt: "a red circle on a blue background".to_owned(),
        steps: Some(of.steps),
        guidance: Some(7.5),
        scheduler: Some("ddim".to_owned()),
        width: of.side,
        height: of.side,
        ..Request::default()
    };
    if device != Device::Cpu {
        let warm_up = Request {
            steps: Some(1),
            ..request.clone()
        };
        pipeline.generate(&warm_up, &mut ())?;
    }
    let mut clock = Clock {
        device,
        times: Vec::new(),
    };
    let start = Instant::now();
    pipeline.generate(&request, &mut clock)?;
    let end = Instant::now();
    let [first, .., last] = clock.times.as_slice() else {
        anyhow::bail!("the pipeline reported no steps");
    };
    let steps = clock.times.windows(2).skip(1);
    let steps = steps.map(|pair| (pair[1] - pair[0]).as_secs_f64());
    Ok(Timing {
        load_s,
        text_s: (*first - start).as_secs_f64(),
        step_s: median(steps.collect()),
        decode_s: (end - *last).as_secs_f64(),
        picture_s: (end - start).as_secs_f64(),
        peak_bytes: device.memory().map_or(0, |memory| memory.peak_bytes),
    })
}

/// Returns the median; NaN of no values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => f64::NAN,
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}
