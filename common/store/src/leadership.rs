//! The leader lease of an app: which router dispatches its jobs.

use std::time::Duration;

use redis::AsyncCommands;
use warmq_types::ids::AppId;
use warmq_types::policy_name::PolicyName;

use super::{Error, Leadership, ms};

/// Maximum number of apps per call: Lua bounds its arguments.
const MAX_APPS: usize = 500;

impl Leadership<'_> {
    /// Takes or renews the leadership of each app for its candidate. Returns which of them lead.
    pub async fn lead(
        self,
        candidates: &[(AppId, String)],
        lease: Duration,
    ) -> Result<Vec<bool>, Error> {
        let mut leads = Vec::with_capacity(candidates.len());
        for chunk in candidates.chunks(MAX_APPS) {
            let mut invocation = self.scripts.take_leadership.prepare_invoke();
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

    /// Records the policy of the leader's session, which decides who consumes the shared queue.
    pub async fn record_policy(self, app: &AppId, policy: PolicyName) -> Result<(), Error> {
        let key = self.keys.leader_policy(app);
        Ok(self.connection.clone().set(key, policy.to_string()).await?)
    }

    /// Releases the leadership of `app`, if `candidate` has it.
    pub async fn release(self, app: &AppId, candidate: &str) -> Result<(), Error> {
        let released = (app.clone(), candidate.to_owned());
        self.lead(&[released], Duration::ZERO).await?;
        Ok(())
    }
}
