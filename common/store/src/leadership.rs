//! The leader lease of an app: which router dispatches its jobs.

use std::time::Duration;

use warmq_types::ids::AppId;

use super::{Error, Leadership, ms};

/// Maximum number of apps per script: Lua bounds the arguments of a call.
const CHUNK: usize = 500;

impl Leadership<'_> {
    /// Takes or renews the leadership of each app for its candidate. Returns which of them lead.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub async fn lead(self, bids: &[(AppId, String)], lease: Duration) -> Result<Vec<bool>, Error> {
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

    /// Releases the leadership of `app`, if `who` has it.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub async fn release(self, app: &AppId, who: &str) -> Result<(), Error> {
        let bid = (app.clone(), who.to_owned());
        self.lead(&[bid], Duration::ZERO).await?;
        Ok(())
    }
}
