//! Which router dispatches an app's jobs: a lease.

use std::time::Duration;

use warmq_types::ids::AppId;

use super::{Error, Store, ms};

/// Apps of one script: Lua bounds how many arguments a call takes.
const CHUNK: usize = 500;

impl Store {
    /// Takes or keeps the leadership of each app for its candidate. Returns which of them lead.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub async fn lead(
        &self,
        bids: &[(AppId, String)],
        lease: Duration,
    ) -> Result<Vec<bool>, Error> {
        let mut leads = Vec::with_capacity(bids.len());
        for chunk in bids.chunks(CHUNK) {
            let mut invocation = self.scripts.lead.prepare_invoke();
            invocation.arg(ms(lease));
            for (app, candidate) in chunk {
                invocation.key(self.keys.leader(app)).arg(candidate);
            }
            let mut connection = self.connection.clone();
            let part: Vec<bool> = invocation.invoke_async(&mut connection).await?;
            leads.extend(part);
        }
        Ok(leads)
    }

    /// Gives the leadership of `app` up, if `who` has it.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub async fn stop_leading(&self, app: &AppId, who: &str) -> Result<(), Error> {
        let bid = (app.clone(), who.to_owned());
        self.lead(&[bid], Duration::ZERO).await?;
        Ok(())
    }
}
