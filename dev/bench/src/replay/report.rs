//! The table.

use super::comparison::{Closeness, Comparison, Measure};
use super::overheads::{Overhead, Overheads};

/// Prints a case's rows.
pub fn print(comparison: &Comparison) {
    let Comparison {
        case,
        seeds,
        collapsing_seeds,
        ..
    } = comparison;
    println!("{case}");
    if comparison.measures.is_empty() {
        print_quarters(comparison);
    } else {
        println!(
            "  {:<10} {:>9} {:>10} {:>20} {:>19} {:>9}  within",
            "",
            "real",
            "predicted",
            format!("(of {seeds} seeds)"),
            "difference",
            "ideal"
        );
        comparison.measures.iter().for_each(print_measure);
    }
    let real = if comparison.collapsing { "yes" } else { "no" };
    println!("  collapsing: real {real}, predicted in {collapsing_seeds} of {seeds} seeds");
    print_overheads(&comparison.overheads);
    println!();
}

fn print_overheads(overheads: &Overheads) {
    let Overheads {
        late,
        answered,
        sent,
        at_runner,
        per_job_ms,
        notice,
        notice_ms,
    } = overheads;
    let times = |overhead: &Overhead| format!("{:.0}/{:.0}", overhead.p50_ms, overhead.p99_ms);
    println!(
        "  p50/p99 ms: submitted late {}, answered {}, sent to a runner {}, there beyond load and run {}; {per_job_ms:.1} ms per job; \
         idle and not yet noticed {}, {notice_ms:.1} ms on average",
        times(late),
        times(answered),
        times(sent),
        times(at_runner),
        times(notice)
    );
}

fn print_measure(measure: &Measure) {
    let Measure {
        name,
        real,
        predicted,
        ideal,
        difference,
        closeness,
    } = measure;
    let closeness = match closeness {
        Closeness::Within => "yes",
        Closeness::InRange => "in the seeds' range",
        Closeness::Missed => "NO",
    };
    println!(
        "  {name:<10} {real:>9.4} {:>10.4} {:>20} {:>19} {ideal:>9.4}  {closeness}",
        predicted.median,
        format!("{:.4} .. {:.4}", predicted.least, predicted.greatest),
        format!(
            "{difference:+.4} {:>10}",
            percent(*difference, predicted.median)
        )
    );
}

/// Formats the difference as a percentage of the prediction, unless that is zero.
fn percent(difference: f64, predicted: f64) -> String {
    match predicted > 0.0 {
        true => format!("{:+.1} %", difference / predicted * 100.0),
        false => String::new(),
    }
}

/// Prints the quarters: in a collapse each is worse than the previous one.
fn print_quarters(comparison: &Comparison) {
    println!(
        "  {:<10} {:>12} {:>12} {:>14} {:>18}",
        "quarter", "real mean s", "predicted", "real backlog", "predicted backlog"
    );
    for (index, course) in comparison.quarters.iter().enumerate() {
        println!(
            "  {:<10} {:>12.2} {:>12.2} {:>14} {:>18.0}",
            index + 1,
            course.real.mean_s,
            course.predicted_mean_s,
            course.real.backlog,
            course.predicted_backlog
        );
    }
}
