//! How apps stand: what a job costs there, and how long it would wait. For the conditions of routes, and for those who look for an
//! app with runners.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use warmq_common::config::AppConfig;
use warmq_common::ids::AppId;
use warmq_common::store::{Counts, Error};
use warmq_routes::AppStanding;

use super::AppDirectory;
use crate::declared::Declared;
use crate::policy::warm::Learned;

/// How long a standing is believed: submissions come faster than it changes.
const FRESH: Duration = Duration::from_millis(500);

/// What was read, and when.
#[derive(Clone, Default)]
pub(super) struct Standings(Arc<Mutex<HashMap<AppId, (Instant, Measured)>>>);

/// What Redis says of an app.
#[derive(Debug, Clone, Copy)]
struct Measured {
    counts: Counts,
    /// How long a job runs there, s; none before the first ran.
    run_s: Option<f64>,
}

impl Measured {
    /// Of runners that all have jobs one is free every run time over their number, and whoever comes waits for as many as wait before
    /// it, and for one more. Loads are left out: whether a job is cold depends on its hint.
    fn standing(self, config: &AppConfig) -> AppStanding {
        let Counts {
            live,
            faulty,
            idle,
            queued,
        } = self.counts;
        let live = live.saturating_sub(faulty);
        let run_s = self.run_s.unwrap_or(config.prior_run.as_secs_f64());
        let wait_s = match (live, idle) {
            (0, _) => f64::INFINITY,
            (live, 0) => (queued + 1) as f64 * run_s / live as f64,
            _ => 0.0,
        };
        AppStanding {
            cost: config.cost,
            wait_s,
            run_s,
            runners: live,
            idle,
            queued,
        }
    }
}

impl AppDirectory {
    /// How the apps stand that conditions on the way from `name` look at.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn standings_for(
        &self,
        declared: &Declared,
        name: &AppId,
    ) -> Result<BTreeMap<AppId, AppStanding>, Error> {
        let mut standings = BTreeMap::new();
        for app in declared.routes.apps_looked_at(name) {
            standings.insert(app.clone(), self.standing(declared, app).await?);
        }
        Ok(standings)
    }

    /// How an app stands.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn standing(&self, declared: &Declared, app: &AppId) -> Result<AppStanding, Error> {
        Ok(self.measured(app).await?.standing(&declared.config(app)))
    }

    /// Those of `targets`, apps or routes, from which an app with runners can be reached.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn with_runners<'t>(
        &self,
        declared: &Declared,
        targets: &[&'t AppId],
    ) -> Result<BTreeSet<&'t AppId>, Error> {
        let mut found = BTreeSet::new();
        for &target in targets {
            for app in declared.routes.reachable(target) {
                let is_route = declared.routes.get(app).is_some();
                if !is_route && self.measured(app).await?.counts.live > 0 {
                    found.insert(target);
                    break;
                }
            }
        }
        Ok(found)
    }

    async fn measured(&self, app: &AppId) -> Result<Measured, Error> {
        // Held while Redis is asked: of many that want to know at once, one asks.
        let mut known = self.standings.0.lock().await;
        if let Some((read, measured)) = known.get(app)
            && read.elapsed() < FRESH
        {
            return Ok(*measured);
        }
        let learned = self.store.stats_of_app(app).await?;
        let learned = learned.and_then(|json| serde_json::from_str::<Learned>(&json).ok());
        let measured = Measured {
            counts: self.store.counts(app).await?,
            run_s: learned.and_then(|learned| learned.run_s()),
        };
        known.insert(app.clone(), (Instant::now(), measured));
        Ok(measured)
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
        measured.standing(&AppConfig::default()).wait_s
    }

    #[test]
    fn who_comes_waits_for_those_before_it() {
        assert_eq!(wait_s(0, 0, 5), f64::INFINITY);
        assert_eq!(wait_s(2, 1, 0), 0.0);
        assert_eq!(wait_s(2, 0, 0), 1.5);
        assert_eq!(wait_s(2, 0, 3), 6.0);
    }

    #[test]
    fn a_run_takes_what_was_configured_until_one_was_measured() {
        let measured = Measured {
            counts: Counts::default(),
            run_s: None,
        };
        assert_eq!(measured.standing(&AppConfig::default()).run_s, 2.0);
    }
}
