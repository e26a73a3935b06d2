//! The table of results, in Markdown.

use crate::timing::{Timing, median};

/// One round: both engines, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Reading all files, which are in the page cache.
    pub read_s: f64,
    pub warmq: Timing,
    pub diffusers: Option<Timing>,
}

const MIB: f64 = (1 << 20) as f64;

/// Prints the table's head.
pub fn print_head() {
    println!(
        "| picture | engine | load, s | reading / load | text, s | a step, s | decode, s | picture, s \
         | peak, MiB |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
}

/// Prints the medians of rounds: of both engines, and of their ratio in each round.
pub fn print_rows(picture: &str, rounds: &[Round]) {
    let read: Vec<f64> = rounds.iter().map(|round| round.read_s).collect();
    let ours: Vec<Timing> = rounds.iter().map(|round| round.warmq).collect();
    let theirs: Vec<Timing> = rounds.iter().filter_map(|round| round.diffusers).collect();
    print_engine(picture, "warmq", &read, &ours);
    if theirs.is_empty() {
        return;
    }
    print_engine(picture, "diffusers", &read, &theirs);
    let ratio = |of: fn(&Timing) -> f64| {
        let ratios = ours
            .iter()
            .zip(&theirs)
            .map(|(one, other)| of(one) / of(other));
        format!("{:.2}", median(ratios.collect()))
    };
    println!(
        "| {picture} | **warmq / diffusers** | **{}** | | {} | **{}** | {} | **{}** | **{}** |",
        ratio(|timing| timing.load_s),
        ratio(|timing| timing.text_s),
        ratio(|timing| timing.step_s),
        ratio(|timing| timing.decode_s),
        ratio(|timing| timing.picture_s),
        ratio(|timing| timing.peak_bytes as f64),
    );
}

fn print_engine(picture: &str, engine: &str, read: &[f64], timings: &[Timing]) {
    let of = |value: fn(&Timing) -> f64| median(timings.iter().map(value).collect());
    let rates = read
        .iter()
        .zip(timings)
        .map(|(read, timing)| read / timing.load_s);
    println!(
        "| {picture} | {engine} | {:.2} | {:.2} | {:.3} | {:.4} | {:.3} | {:.3} | {:.0} |",
        of(|timing| timing.load_s),
        median(rates.collect()),
        of(|timing| timing.text_s),
        of(|timing| timing.step_s),
        of(|timing| timing.decode_s),
        of(|timing| timing.picture_s),
        of(|timing| timing.peak_bytes as f64 / MIB),
    );
}
