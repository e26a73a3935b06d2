//! Drains the runners of an app that are not wanted, the least useful first.

use std::collections::BTreeMap;

use warmq_policy::scaling::{Activity, Candidate, least_useful};
use warmq_policy::warm::{Constants, Statistics};
use warmq_process::clock::shared_ms;
use warmq_types::hint::Hint;
use warmq_types::runner::RunnerRecord;

use super::super::Dispatcher;
use crate::session_error::SessionError;

/// Drains all but `wanted` runners; those that drain already do not count.
pub(super) async fn drain(dispatcher: &Dispatcher, wanted: usize) -> Result<(), SessionError> {
    let Dispatcher { shared, app, .. } = dispatcher;
    let mut runners = shared.store.runners().list(app).await?;
    runners.retain(|runner| !runner.draining);
    let surplus = runners.len().saturating_sub(wanted);
    if surplus == 0 {
        return Ok(());
    }
    let arrivals = Arrivals::read(dispatcher).await?;
    let models: Vec<Vec<Hint>> = runners.iter().map(in_memory).collect();
    let candidates: Vec<Candidate<'_>> = runners
        .iter()
        .zip(&models)
        .map(|(runner, models)| Candidate {
            activity: activity(runner),
            models,
            since_ms: runner.since_ms,
        })
        .collect();
    for index in least_useful(&candidates, surplus, |model| arrivals.of(model)) {
        let runner = &runners[index].id;
        if shared.store.membership().drain(app, runner).await? {
            tracing::info!(%app, %runner, wanted, "draining a runner that is not needed");
        }
    }
    Ok(())
}

fn in_memory(runner: &RunnerRecord) -> Vec<Hint> {
    let models = runner.hints.iter().chain(&runner.ram_hints);
    models.cloned().collect()
}

fn activity(runner: &RunnerRecord) -> Activity {
    match (&runner.fault, runner.idle) {
        (Some(_), _) => Activity::Faulty,
        (None, true) => Activity::Idle,
        (None, false) => Activity::Busy,
    }
}

/// Recent arrivals of each model, as the leader measures them with policy `warm`.
struct Arrivals {
    models: BTreeMap<Option<Hint>, Statistics>,
    now_s: f64,
    tau_s: f64,
}

impl Arrivals {
    async fn read(dispatcher: &Dispatcher) -> Result<Self, SessionError> {
        let Dispatcher { shared, app, .. } = dispatcher;
        let stored = shared.store.stats().read(app).await?.into_iter();
        // Those of another version count as none.
        let models: BTreeMap<Option<Hint>, Statistics> = stored
            .filter_map(|(model, json)| Some((model, serde_json::from_str(&json).ok()?)))
            .collect();
        let run_s = models.get(&None).and_then(Statistics::run_s);
        let run_s = run_s.unwrap_or(shared.apps.config(app).prior_run.as_secs_f64());
        Ok(Self {
            models,
            now_s: shared_ms() as f64 / 1000.0,
            tau_s: Constants::default().rate_window * run_s,
        })
    }

    fn of(&self, model: &Hint) -> f64 {
        let statistics = self.models.get(&Some(model.clone()));
        statistics.map_or(0.0, |model| model.recent_arrivals(self.now_s, self.tau_s))
    }
}
