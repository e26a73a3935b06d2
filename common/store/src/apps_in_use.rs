//! Apps in use: those with runners, waiting jobs, overflow queues, or remains to clean up.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::AsyncCommands;
use warmq_types::ids::AppId;

use super::{AppsInUse, Error, ms};

/// Maximum number of apps per command.
const CHUNK: usize = 500;

impl AppsInUse<'_> {
    /// Returns the apps with a live or past worker.
    pub async fn known(self) -> Result<BTreeSet<AppId>, Error> {
        let names: Vec<String> = self.connection.clone().smembers(self.keys.apps()).await?;
        Ok(names
            .iter()
            .filter_map(|name| AppId::parse(name).ok())
            .collect())
    }

    /// Returns whether a worker ever registered for the app.
    pub async fn is_known(self, app: &AppId) -> Result<bool, Error> {
        Ok(self
            .connection
            .clone()
            .sismember(self.keys.apps(), app.as_str())
            .await?)
    }

    /// Returns those of `apps` that need a dispatcher: they have runners, waiting jobs, overflow
    /// queues, lost runners or entries in the outbox. One command covers many apps, since most are
    /// idle.
    pub async fn in_use(self, apps: &[AppId]) -> Result<Vec<AppId>, Error> {
        self.with_keys(apps, |app| self.keys.in_use(app).to_vec())
            .await
    }

    /// Returns those of `apps` that had runners whose queues may remain.
    pub async fn with_ended_runners(self, apps: &[AppId]) -> Result<Vec<AppId>, Error> {
        self.with_keys(apps, |app| vec![self.keys.ended(app)]).await
    }

    /// Returns those of `apps` whose leader has work: waiting jobs, deadlines, jobs of lost
    /// runners, entries in the outbox.
    pub async fn with_pending_work(self, apps: &[AppId]) -> Result<Vec<AppId>, Error> {
        self.with_keys(apps, |app| self.keys.pending(app).to_vec())
            .await
    }

    /// Returns those of `apps` of which one of `keys` exists. One command covers many; where some
    /// exist, halves of them.
    async fn with_keys(
        self,
        apps: &[AppId],
        keys: impl Fn(&AppId) -> Vec<String>,
    ) -> Result<Vec<AppId>, Error> {
        let mut found = Vec::new();
        let mut parts: Vec<&[AppId]> = apps.chunks(CHUNK).collect();
        while !parts.is_empty() {
            let mut pipeline = redis::pipe();
            for part in &parts {
                let exists = pipeline.cmd("EXISTS");
                for app in *part {
                    exists.arg(keys(app));
                }
            }
            let counts: Vec<u64> = pipeline.query_async(&mut self.connection.clone()).await?;
            let mut halves = Vec::new();
            for (part, _) in parts.iter().zip(counts).filter(|(_, count)| *count > 0) {
                match part {
                    [app] => found.push(app.clone()),
                    _ => halves.extend(<[_; 2]>::from(part.split_at(part.len() / 2))),
                }
            }
            parts = halves;
        }
        Ok(found)
    }

    /// Records since when `unused` apps are unused, unless recorded already, and that the `used`
    /// ones are not.
    pub async fn record(self, unused: &[AppId], used: &[AppId]) -> Result<(), Error> {
        let key = self.keys.unused_apps();
        let now_ms = self.now_ms().await?;
        let mut pipeline = redis::pipe();
        for chunk in unused.chunks(CHUNK) {
            let add = pipeline.cmd("ZADD").arg(&key).arg("NX");
            for app in chunk {
                add.arg(now_ms).arg(app.as_str());
            }
            pipeline.ignore();
        }
        for chunk in used.chunks(CHUNK) {
            let names: Vec<&str> = chunk.iter().map(AppId::as_str).collect();
            pipeline.zrem(&key, names).ignore();
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        Ok(pipeline.query_async(&mut self.connection.clone()).await?)
    }

    /// Returns the apps that have been unused for `long`.
    pub async fn unused_for(self, long: Duration) -> Result<Vec<AppId>, Error> {
        let before_ms = self.now_ms().await?.saturating_sub(ms(long));
        let names: Vec<String> = redis::cmd("ZRANGEBYSCORE")
            .arg(self.keys.unused_apps())
            .arg("-inf")
            .arg(before_ms)
            .query_async(&mut self.connection.clone())
            .await?;
        let apps = names.iter().filter_map(|name| AppId::parse(name).ok());
        Ok(apps.collect())
    }

    /// Forgets an app, with its schema and statistics, unless it is in use. Returns whether it was
    /// forgotten.
    pub async fn forget_app(self, app: &AppId) -> Result<bool, Error> {
        let mut invocation = self.scripts.forget_app.prepare_invoke();
        invocation
            .key(self.keys.apps())
            .key(self.keys.unused_apps())
            .key(self.keys.schema(app))
            .key(self.keys.stats(app))
            .key(self.keys.models(app))
            .key(self.keys.leader_policy(app))
            .key(self.keys.history(app))
            .key(self.keys.ended(app));
        for key in self.keys.in_use(app) {
            invocation.key(key);
        }
        let invoked = invocation.arg(app.as_str());
        Ok(invoked.invoke_async(&mut self.connection.clone()).await?)
    }

    /// Lists an app again that was forgotten during a submission to it.
    pub async fn remember_app(self, app: &AppId) -> Result<(), Error> {
        redis::pipe()
            .sadd(self.keys.apps(), app.as_str())
            .zrem(self.keys.unused_apps(), app.as_str())
            .query_async::<()>(&mut self.connection.clone())
            .await?;
        Ok(())
    }
}
