//! The table.

use super::comparison::{Comparison, Measure};

/// Prints a case's rows.
pub fn print(comparison: &Comparison) {
    let Comparison {
        case,
        seeds,
        collapsing_seeds,
        pace,
        ..
    } = comparison;
    println!(
        "{case}  (submitted late: p99 {:.1} ms; answered: p99 {:.0} ms)",
        pace.late_p99_ms, pace.answered_p99_ms
    );
    if comparison.measures.is_empty() {
        print_course(comparison);
    } else {
        println!(
            "  {:<10} {:>9} {:>10} {:>20} {:>11}  within",
            "",
            "real",
            "predicted",
            format!("(of {seeds} seeds)"),
            "difference"
        );
        comparison.measures.iter().for_each(print_measure);
    }
    let real = if comparison.collapsing { "yes" } else { "no" };
    println!("  collapsing: real {real}, predicted in {collapsing_seeds} of {seeds} seeds");
    println!();
}

fn print_measure(measure: &Measure) {
    let Measure {
        name,
        real,
        predicted,
        difference,
        within,
    } = measure;
    println!(
        "  {name:<10} {real:>9.4} {:>10.4} {:>20} {:>+9.1} %  {}",
        predicted.median,
        format!("{:.4} .. {:.4}", predicted.least, predicted.greatest),
        difference * 100.0,
        if *within { "yes" } else { "NO" }
    );
}

/// Quarters side by side: where jobs pile up, each is worse than the one before.
fn print_course(comparison: &Comparison) {
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
