//! Load of apps: cost, expected wait, runners. Read by conditions of routes and by fallbacks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use warmq_config::AppConfig;
use warmq_policy::warm::Statistics;
use warmq_rules::AppLoadEstimate;
use warmq_store::{AppLoad, Counts, Error, Store};
use warmq_types::ids::AppId;

use crate::routing_config::RoutingConfig;

/// How long a load is cached: submissions are more frequent than its changes.
const LOAD_CACHE_TTL: Duration = Duration::from_millis(500);

/// A cheap handle on the loads of apps.
#[derive(Clone)]
pub(crate) struct AppLoads {
    store: Store,
    cache: Arc<Mutex<Cache>>,
}

/// Loads with the time of the read.
type Cache = HashMap<AppId, (Instant, Measured)>;

/// Load of an app in Redis.
#[derive(Debug, Clone, Copy)]
struct Measured {
    counts: Counts,
    /// Run time of a job, s; `None` before the first run.
    run_s: Option<f64>,
}

impl From<AppLoad> for Measured {
    fn from(AppLoad { counts, statistics }: AppLoad) -> Self {
        let statistics = statistics.and_then(|json| serde_json::from_str::<Statistics>(&json).ok());
        Self {
            counts,
            run_s: statistics.and_then(|statistics| statistics.run_s()),
        }
    }
}

impl Measured {
    /// Estimates the wait: with all runners busy, one comes free every run time divided by their
    /// number, and a new job waits for those before it, and for one more. Loads of models are left
    /// out, since whether a job is cold depends on its hint.
    fn estimate(self, config: &AppConfig) -> AppLoadEstimate {
        let Counts { idle, queued, .. } = self.counts;
        let live = self.counts.healthy();
        let run_s = self.run_s.unwrap_or(config.prior_run.as_secs_f64());
        let wait_s = match (live, idle) {
            (0, _) => f64::INFINITY,
            (live, 0) => (queued + 1) as f64 * run_s / live as f64,
            _ => 0.0,
        };
        AppLoadEstimate {
            cost: config.cost,
            wait_s,
            run_s,
            runners: live,
            idle,
            queued,
        }
    }
}

impl AppLoads {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            cache: Arc::default(),
        }
    }

    /// Returns the loads that conditions reachable from `name` read.
    pub(crate) async fn in_conditions(
        &self,
        routing: &RoutingConfig,
        name: &AppId,
    ) -> Result<BTreeMap<AppId, AppLoadEstimate>, Error> {
        let apps = warmq_rules::apps_in_conditions(&routing.routes, name);
        self.of(routing, apps.into_iter().cloned()).await
    }

    /// Returns the loads of these apps.
    pub(crate) async fn of(
        &self,
        routing: &RoutingConfig,
        apps: impl IntoIterator<Item = AppId>,
    ) -> Result<BTreeMap<AppId, AppLoadEstimate>, Error> {
        let measured = self.measured(apps.into_iter().collect()).await?.into_iter();
        Ok(measured
            .map(|(app, measured)| {
                let estimate = measured.estimate(&routing.config(&app));
                (app, estimate)
            })
            .collect())
    }

    /// Returns those of `targets`, apps or routes, that lead to an app with runners.
    pub(crate) async fn with_runners<'t>(
        &self,
        routing: &RoutingConfig,
        targets: &[&'t AppId],
    ) -> Result<BTreeSet<&'t AppId>, Error> {
        let apps_behind = |target: &AppId| {
            let reachable = warmq_rules::reachable(&routing.routes, target).into_iter();
            let apps = reachable.filter(|app| routing.routes.get(app).is_none());
            apps.cloned().collect::<Vec<AppId>>()
        };
        let all = targets.iter().flat_map(|target| apps_behind(target));
        let measured = self.measured(all.collect()).await?;
        let has_runners = |app: &AppId| measured.get(app).is_some_and(|app| app.counts.live > 0);
        let found = targets.iter().copied();
        Ok(found
            .filter(|target| apps_behind(target).iter().any(has_runners))
            .collect())
    }

    /// Reads missing and outdated loads in one call. No lock is held meanwhile: while Redis hangs,
    /// each caller waits only for its own response.
    async fn measured(&self, apps: BTreeSet<AppId>) -> Result<BTreeMap<AppId, Measured>, Error> {
        let mut found = BTreeMap::new();
        let mut unknown = Vec::new();
        {
            let known = self.lock();
            for app in apps {
                match known.get(&app) {
                    Some((read, measured)) if read.elapsed() < LOAD_CACHE_TTL => {
                        found.insert(app, *measured);
                    }
                    _ => unknown.push(app),
                }
            }
        }
        if unknown.is_empty() {
            return Ok(found);
        }
        let loads = self.store.runners().loads(&unknown).await?;
        let now = Instant::now();
        let mut known = self.lock();
        known.retain(|_, (read, _)| now - *read < LOAD_CACHE_TTL);
        for (app, load) in unknown.into_iter().zip(loads) {
            let measured = Measured::from(load);
            known.insert(app.clone(), (now, measured));
            found.insert(app, measured);
        }
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_s(live: u64, idle: u64, queued: u64) -> f64 {
        let measured = Measured {
            counts: Counts {
                live,
                idle,
                queued,
                ..Counts::default()
            },
            run_s: Some(3.0),
        };
        measured.estimate(&AppConfig::default()).wait_s
    }

    #[test]
    fn a_new_job_waits_for_those_before_it() {
        assert_eq!(wait_s(0, 0, 5), f64::INFINITY);
        assert_eq!(wait_s(2, 1, 0), 0.0);
        assert_eq!(wait_s(2, 0, 0), 1.5);
        assert_eq!(wait_s(2, 0, 3), 6.0);
    }

    #[test]
    fn the_configured_run_time_counts_until_one_is_measured() {
        let measured = Measured {
            counts: Counts::default(),
            run_s: None,
        };
        assert_eq!(measured.estimate(&AppConfig::default()).run_s, 2.0);
    }
}
