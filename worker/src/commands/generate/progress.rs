//! Progress of `generate` on standard error: a bar on a terminal, one line per phase elsewhere.

use std::io::IsTerminal;
use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressStyle};
use warmq_diffusion::{Latents, LoadStep, Observer};

/// The display.
pub(super) enum Progress {
    Bar(ProgressBar),
    Lines { last: String },
}

impl Progress {
    pub(super) fn start() -> Self {
        match std::io::stderr().is_terminal() {
            true => Self::Bar(ProgressBar::new(1)),
            false => Self::Lines {
                last: String::new(),
            },
        }
    }

    pub(super) fn loading(&mut self, model: &str, step: LoadStep) {
        let template = "{msg} [{bar:30}] {bytes}/{total_bytes} ({elapsed})";
        let phase = format!("loading {model}");
        self.show(&phase, template, step.bytes, step.total_bytes);
    }

    fn drawing(&mut self, step: u32, steps: u32) {
        let template = "{msg} [{bar:30}] {pos}/{len} ({elapsed}, {eta} left)";
        let phase = format!("drawing in {steps} steps");
        self.show(&phase, template, u64::from(step), u64::from(steps));
    }

    fn show(&mut self, phase: &str, template: &str, done: u64, total: u64) {
        match self {
            Self::Bar(bar) => {
                if bar.message() != phase {
                    bar.reset();
                    bar.set_message(phase.to_owned());
                    // The templates are valid; the default style is the fallback.
                    if let Ok(style) = ProgressStyle::with_template(template) {
                        bar.set_style(style.progress_chars("=> "));
                    }
                }
                bar.set_length(total);
                bar.set_position(done);
            }
            Self::Lines { last } if last != phase => {
                eprintln!("{phase}");
                phase.clone_into(last);
            }
            Self::Lines { .. } => {}
        }
    }

    pub(super) fn end(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Shows the steps of a generation and keeps the final latents.
pub(super) struct Steps<'a> {
    progress: &'a mut Progress,
    pub(super) latents: Option<Latents>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(progress: &'a mut Progress) -> Self {
        Self {
            progress,
            latents: None,
        }
    }
}

impl Observer for Steps<'_> {
    fn step(&mut self, step: u32, steps: u32) -> ControlFlow<()> {
        self.progress.drawing(step, steps);
        ControlFlow::Continue(())
    }

    fn latents(&mut self, latents: Latents) {
        self.latents = Some(latents);
    }
}
