//! Draws a snapshot. Pure.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use warmq_types::http::App;
use warmq_types::job::JobSummary;
use warmq_types::runner::RunnerRecord;
use warmq_types::state::JobState;
use warmq_types::text::escape;

use super::snapshot::Snapshot;
use crate::time;

/// Maximum rows of the apps.
const MAX_APP_ROWS: usize = 8;

/// Rows of a heading and the header of a table.
const HEADING: u16 = 2;

/// Empty rows below a table.
const GAP: u16 = 1;

/// Fraction of the remaining height for the runners; the jobs have the rest.
const FLEET_PERCENT: u16 = 50;

/// What is drawn besides the snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Display {
    /// The router's URL.
    pub url: String,
    /// First visible row of the runners.
    pub scroll: usize,
    /// Why the snapshot is not current, if it is not.
    pub problem: Option<String>,
}

impl Display {
    /// Scrolls the runners by so many rows; negative: up.
    pub fn scroll_by(&mut self, rows: isize) {
        self.scroll = self.scroll.saturating_add_signed(rows);
    }
}

/// Draws the whole screen. Limits the scrolling to what there is to see.
pub fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, display: &mut Display) {
    let apps = snapshot.apps.len().clamp(1, MAX_APP_ROWS);
    let [head, apps, fleet, jobs, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(HEADING + rows(apps) + GAP),
        Constraint::Percentage(FLEET_PERCENT),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, snapshot, display);
    draw_apps(frame, apps, &snapshot.apps);
    display.scroll = draw_fleet(frame, fleet, snapshot, display.scroll);
    draw_jobs(frame, jobs, snapshot);
    let keys = Line::styled("q quit   ↑↓ PgUp PgDn scroll the runners", dim());
    frame.render_widget(keys, foot);
}

fn rows(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// Draws the sums, or why they are not current.
fn draw_head(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, display: &Display) {
    let at = time::utc(snapshot.at_ms);
    let title = vec![
        Span::styled("warmq ", bold()),
        Span::raw(display.url.clone()),
        Span::styled(format!("  {at}"), dim()),
    ];
    let second = match &display.problem {
        Some(problem) => Line::styled(problem.clone(), Style::new().fg(Color::Red)),
        None => Line::raw(sums(snapshot)),
    };
    frame.render_widget(Paragraph::new(vec![Line::from(title), second]), area);
}

/// Formats `12 runners: 8 busy, 3 idle, 1 faulty; 34 jobs wait, 8 run`.
fn sums(snapshot: &Snapshot) -> String {
    let faulty = (snapshot.runners.iter()).filter(|runner| runner.fault.is_some());
    let (faulty, idle) = (
        faulty.count(),
        (snapshot.runners.iter())
            .filter(|runner| runner.idle)
            .count(),
    );
    let all = snapshot.runners.len();
    let busy = all.saturating_sub(faulty + idle);
    let waiting: u64 = snapshot.apps.iter().map(|app| app.queued).sum();
    format!("{all} runners: {busy} busy, {idle} idle, {faulty} faulty; {waiting} jobs wait")
}

/// Draws a heading and a table with as many rows as fit, from `first` on.
fn draw_table<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    heading: String,
    header: [&'static str; N],
    widths: [Constraint; N],
    rows: Vec<Row<'static>>,
) {
    let [title, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Line::styled(heading, bold()), title);
    let table = Table::new(rows, widths)
        .header(Row::new(header).style(dim()))
        .column_spacing(2);
    frame.render_widget(table, body);
}

fn draw_apps(frame: &mut Frame<'_>, area: Rect, apps: &[App]) {
    let mut busiest: Vec<&App> = apps.iter().collect();
    busiest.sort_by(|a, b| b.queued.cmp(&a.queued).then_with(|| a.app.cmp(&b.app)));
    let rows = busiest.iter().take(MAX_APP_ROWS).map(|app| {
        let wait = match app.wait_s {
            None => "-".to_owned(),
            Some(0.0) => "none".to_owned(),
            Some(wait_s) => time::duration((wait_s * 1000.0) as u64),
        };
        Row::new([
            app.app.to_string(),
            app.queued.to_string(),
            app.runners.to_string(),
            wait,
            app.policy.to_string(),
        ])
    });
    let shown = match apps.len() > MAX_APP_ROWS {
        true => format!("Queues ({MAX_APP_ROWS} of {} apps)", apps.len()),
        false => "Queues".to_owned(),
    };
    let widths = [
        Constraint::Length(40),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(12),
        Constraint::Fill(1),
    ];
    let header = ["APP", "WAITING", "RUNNERS", "WAIT", "POLICY"];
    draw_table(frame, area, shown, header, widths, rows.collect());
}

/// Draws the runners from row `scroll` on. Returns the first visible row.
fn draw_fleet(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, scroll: usize) -> usize {
    let visible = usize::from(area.height.saturating_sub(HEADING + GAP));
    let first = scroll.min(snapshot.runners.len().saturating_sub(visible));
    let shown = snapshot.runners.iter().skip(first).take(visible);
    let rows = shown.map(|runner| runner_row(runner, snapshot));
    let last = (first + visible).min(snapshot.runners.len());
    let heading = match snapshot.runners.len() > visible {
        true => format!(
            "Runners ({} to {last} of {})",
            first + 1,
            snapshot.runners.len()
        ),
        false => "Runners".to_owned(),
    };
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(8),
        Constraint::Fill(3),
        Constraint::Length(12),
        Constraint::Fill(4),
    ];
    let header = ["RUNNER", "APP", "STATE", "JOB", "MEMORY", "MODELS"];
    draw_table(frame, area, heading, header, widths, rows.collect());
    first
}

fn runner_row(runner: &RunnerRecord, snapshot: &Snapshot) -> Row<'static> {
    let (state, color) = match (&runner.fault, runner.idle) {
        _ if runner.draining => ("draining", Color::Yellow),
        (Some(_), _) => ("faulty", Color::Red),
        (None, true) => ("idle", Color::Reset),
        (None, false) => ("busy", Color::Green),
    };
    let job = runner.job.map_or_else(String::new, |id| {
        let running = snapshot.running.iter().find(|job| job.id == id);
        let hint = running.and_then(|job| job.hint.as_ref());
        let ran_ms = running.and_then(|job| job.ran_ms(snapshot.at_ms));
        let ran = ran_ms.map_or_else(String::new, |ms| format!(" {}", time::duration(ms)));
        match hint {
            Some(hint) => format!("{}{ran}", escape(hint.as_str())),
            None => format!("{id}{ran}"),
        }
    });
    let last = match &runner.fault {
        Some(fault) => escape(fault).into_owned(),
        None => models(runner),
    };
    Row::new([
        Cell::from(runner.id.to_string()),
        Cell::from(runner.app.to_string()),
        Cell::from(state).style(Style::new().fg(color)),
        Cell::from(job),
        Cell::from(memory(runner)),
        Cell::from(last),
    ])
}

/// Formats the loaded models, those in RAM in parentheses.
fn models(runner: &RunnerRecord) -> String {
    let loaded = runner
        .hints
        .iter()
        .map(|hint| escape(hint.as_str()).into_owned());
    let in_ram = (runner.ram_hints.iter()).map(|hint| format!("({})", escape(hint.as_str())));
    loaded.chain(in_ram).collect::<Vec<_>>().join(" ")
}

/// Formats the used part of the memory budget as a bar: `██████░░  75%`.
fn memory(runner: &RunnerRecord) -> String {
    const WIDTH: usize = 6;
    let Some(percent) = (100 * runner.memory_bytes).checked_div(runner.memory_budget_bytes) else {
        return String::new();
    };
    let percent = percent.min(100);
    let filled = usize::try_from(percent).unwrap_or(100) * WIDTH / 100;
    let (full, empty) = ("█".repeat(filled), "░".repeat(WIDTH - filled));
    format!("{full}{empty} {percent:>3}%")
}

/// Draws the running jobs, then the ones that ended last.
fn draw_jobs(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let jobs = snapshot.running.iter().chain(&snapshot.ended);
    let visible = usize::from(area.height.saturating_sub(HEADING));
    let rows = jobs.take(visible).map(|job| job_row(job, snapshot.at_ms));
    let widths = [
        Constraint::Length(36),
        Constraint::Length(10),
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(12),
        Constraint::Length(12),
    ];
    let header = ["JOB", "STATE", "APP", "HINT", "RUNNER", "WAITED", "RAN"];
    draw_table(
        frame,
        area,
        "Jobs".to_owned(),
        header,
        widths,
        rows.collect(),
    );
}

fn job_row(job: &JobSummary, now_ms: u64) -> Row<'static> {
    let color = match job.state {
        JobState::Running => Color::Green,
        JobState::Failed | JobState::Expired => Color::Red,
        _ => Color::Reset,
    };
    let text = |text: Option<String>| Cell::from(text.unwrap_or_default());
    Row::new([
        Cell::from(job.id.to_string()),
        Cell::from(job.state.as_str()).style(Style::new().fg(color)),
        Cell::from(job.app.to_string()),
        text((job.hint.as_ref()).map(|hint| escape(hint.as_str()).into_owned())),
        text(job.runner.as_ref().map(ToString::to_string)),
        text(job.waited_ms(now_ms).map(time::duration)),
        text(job.ran_ms(now_ms).map(time::duration)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::{Value, json};

    fn runner(number: usize, change: Value) -> RunnerRecord {
        let mut runner = json!({
            "id": format!("gpu-{number:03}"), "app": "warmq/diffusion", "epoch": 1, "host": "h", "pid": 1,
            "engine": "diffusion", "device": "cuda:0", "memory_budget_bytes": 100, "memory_bytes": 50,
            "hints": ["shapes"], "ram_hints": ["digits"], "idle": true, "job": null, "since_ms": 0,
            "lease_until_ms": 0
        });
        let change = change.as_object().unwrap().clone();
        runner.as_object_mut().unwrap().extend(change);
        serde_json::from_value(runner).unwrap()
    }

    fn snapshot(runners: Vec<RunnerRecord>) -> Snapshot {
        let job = json!({
            "id": "01a20246-c1ed-705f-a519-4e83f0a3d2c9", "app": "warmq/diffusion", "state": "running",
            "hint": "shapes", "priority": "normal", "attempt": 1, "created_ms": 1000,
            "started_ms": 2500, "runner": "gpu-000"
        });
        let app = json!({
            "app": "warmq/diffusion", "policy": "warm", "queued": 34, "runners": 1, "wait_s": 2.5,
            "run_s": 1.0, "cost": 0.0
        });
        Snapshot {
            at_ms: 4_000,
            apps: vec![serde_json::from_value(app).unwrap()],
            runners,
            running: vec![serde_json::from_value(job).unwrap()],
            ended: Vec::new(),
        }
    }

    fn screen(snapshot: &Snapshot, display: &mut Display, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal
            .draw(|frame| draw(frame, snapshot, display))
            .unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_shows_sums_queues_runners_and_jobs() {
        let job = "01a20246-c1ed-705f-a519-4e83f0a3d2c9";
        let snapshot = snapshot(vec![
            runner(0, json!({"idle": false, "job": job})),
            runner(1, json!({})),
            runner(
                2,
                json!({"idle": false, "fault": "storage: no\u{1b} space"}),
            ),
        ]);
        let text = screen(&snapshot, &mut Display::default(), (150, 30));
        for part in [
            "3 runners: 1 busy, 1 idle, 1 faulty; 34 jobs wait",
            "WAITING",
            "2.5 s",
            "shapes 1.5 s",
            "███░░░  50%",
            "shapes (digits)",
            "storage: no\\u{1b} space",
            job,
            "q quit",
        ] {
            assert!(text.contains(part), "'{part}' is missing:\n{text}");
        }
    }

    #[test]
    fn five_hundred_runners_are_scrolled_to_their_end() {
        let runners = (0..500).map(|number| runner(number, json!({}))).collect();
        let snapshot = snapshot(runners);
        let mut display = Display::default();
        assert!(screen(&snapshot, &mut display, (120, 40)).contains("Runners (1 to "));
        display.scroll_by(10_000);
        let text = screen(&snapshot, &mut display, (120, 40));
        assert!(text.contains("to 500 of 500"), "{text}");
        assert!(text.contains("gpu-499") && display.scroll < 500);
        display.scroll_by(isize::MIN);
        assert!(screen(&snapshot, &mut display, (120, 40)).contains("gpu-000"));
    }

    #[test]
    fn a_tiny_terminal_and_an_empty_system_are_drawn() {
        let mut snapshot = snapshot(Vec::new());
        (snapshot.apps, snapshot.running) = (Vec::new(), Vec::new());
        for size in [(1, 1), (20, 5), (80, 24)] {
            let problem = Some("the router is unreachable".to_owned());
            let mut display = Display {
                problem,
                ..Display::default()
            };
            screen(&snapshot, &mut display, size);
        }
    }
}
