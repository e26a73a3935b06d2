//! Which idle runners could take a job with a given hint.

use super::{Error, Store};
use crate::hint::{Candidates, Hint};
use crate::ids::{AppId, RunnerId};

impl Store {
    /// The idle runners of `app`, seen from a job with `hint`.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn candidates(&self, app: &AppId, hint: Option<&Hint>) -> Result<Candidates, Error> {
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
        Ok(Candidates {
            warm: runners(warm),
            blank: runners(blank),
            idle,
        })
    }
}

/// Runner ids in alphabetical order (Redis sets have none). A name that is no runner's can not be claimed: left out.
fn runners(names: Vec<String>) -> Vec<RunnerId> {
    let mut runners: Vec<RunnerId> = names
        .iter()
        .filter_map(|name| RunnerId::parse(name).ok())
        .collect();
    runners.sort();
    runners
}
