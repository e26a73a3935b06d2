//! The idle runners that could take a job with a given hint.

use redis::AsyncCommands;
use warmq_types::hint::{Candidates, Hint};
use warmq_types::ids::{AppId, RunnerId};

use super::membership::parse_hints;
use super::{Error, IdleRunners};

impl IdleRunners<'_> {
    /// Returns the idle runners of `app` from the view of a job with `hint`.
    pub async fn candidates(self, app: &AppId, hint: Option<&Hint>) -> Result<Candidates, Error> {
        let idle = self.keys.idle(app);
        let mut pipeline = redis::pipe();
        pipeline.atomic().scard(&idle);
        pipeline.sinter(&[&idle, &self.keys.blank(app)]);
        if let Some(hint) = hint {
            pipeline.sinter(&[&idle, &self.keys.hint(app, hint)]);
        }
        let mut connection = self.connection.clone();
        let (idle, blank, warm): (u64, Vec<String>, Vec<String>) = match hint {
            Some(_) => pipeline.query_async(&mut connection).await?,
            None => {
                let (idle, blank) = pipeline.query_async(&mut connection).await?;
                (idle, blank, Vec::new())
            }
        };
        let blank = runners(blank);
        Ok(Candidates {
            warm: runners(warm),
            blank: match hint {
                Some(hint) if !blank.is_empty() => self.that_can_load(app, hint, blank).await?,
                _ => blank,
            },
            others: Vec::new(),
            idle,
        })
    }

    /// Returns the idle runners outside `avoid` that can load the job's model.
    pub async fn other_candidates(
        self,
        app: &AppId,
        hint: Option<&Hint>,
        avoid: &[RunnerId],
    ) -> Result<Vec<RunnerId>, Error> {
        let key = self.keys.idle(app);
        let idle: Vec<String> = self.connection.clone().smembers(key).await?;
        let mut others = runners(idle);
        others.retain(|runner| !avoid.contains(runner));
        match hint {
            Some(hint) if !others.is_empty() => self.that_can_load(app, hint, others).await,
            _ => Ok(others),
        }
    }

    /// Filters `runners` by who can load the model; returns all of them if no runner ever listed
    /// it.
    async fn that_can_load(
        self,
        app: &AppId,
        model: &Hint,
        runners: Vec<RunnerId>,
    ) -> Result<Vec<RunnerId>, Error> {
        if !self.published().is_model_known(app, model).await? {
            return Ok(runners);
        }
        let mut pipeline = redis::pipe();
        for runner in &runners {
            pipeline.hget(self.keys.runner(app, runner), "models");
        }
        let mut connection = self.connection.clone();
        let catalogs: Vec<Option<String>> = pipeline.query_async(&mut connection).await?;
        let able = runners.into_iter().zip(catalogs).filter(|(_, catalog)| {
            let catalog = parse_hints(catalog.as_deref().unwrap_or_default());
            catalog.is_empty() || catalog.contains(model)
        });
        Ok(able.map(|(runner, _)| runner).collect())
    }
}

/// Parses and sorts runner ids (Redis sets have no order). Invalid names cannot be claimed and are
/// omitted.
fn runners(names: Vec<String>) -> Vec<RunnerId> {
    let mut runners: Vec<RunnerId> = names
        .iter()
        .filter_map(|name| RunnerId::parse(name).ok())
        .collect();
    runners.sort();
    runners
}
