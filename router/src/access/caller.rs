//! Authorization of a caller: pure.

use std::sync::Arc;

use warmq_types::access::{ApiKey, Limits, Scope};
use warmq_types::ids::{AppId, KeyId};
use warmq_types::job::JobSpec;

/// Author of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Caller {
    /// A caller without a key: no keys exist, or the request came by AMQP, where logins are fully
    /// trusted.
    Trusted,
    /// The holder of a key.
    Holder(Arc<ApiKey>),
}

/// Right that a request requires, besides submitting to an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Any call.
    Call,
    /// Upload files.
    Upload,
    /// Read and cancel its own jobs.
    Read,
    /// Read the state of runners and routers.
    Watch,
    /// Manage dead letters, keys and the configuration.
    Administer,
}

/// The key lacks a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key '{key}' lacks the scope {needed}")]
pub struct Denied {
    key: KeyId,
    needed: String,
}

impl Caller {
    /// Returns the owner of the jobs that it submits.
    pub fn owner(&self) -> Option<&KeyId> {
        match self {
            Self::Trusted => None,
            Self::Holder(key) => Some(&key.id),
        }
    }

    /// Returns its limits.
    pub fn limits(&self) -> Limits {
        match self {
            Self::Trusted => Limits::default(),
            Self::Holder(key) => key.limits,
        }
    }

    /// Checks that it has `right`.
    pub fn may(&self, right: Right) -> Result<(), Denied> {
        let needed = match right {
            Right::Call => return Ok(()),
            Right::Upload => {
                let submits = |scope: &Scope| matches!(scope, Scope::Submit(_));
                return self.has(submits, || "submit:…, for any app".to_owned());
            }
            Right::Read => Scope::Read,
            Right::Watch => Scope::Watch,
            Right::Administer => Scope::Admin,
        };
        self.has(|scope| *scope == needed, || needed.to_string())
    }

    /// Checks that it may submit jobs to `app`, which need not exist.
    pub fn may_submit_to(&self, app: &AppId) -> Result<(), Denied> {
        let covers = |scope: &Scope| matches!(scope, Scope::Submit(apps) if apps.covers(app));
        self.has(covers, || format!("submit:{app}"))
    }

    /// Returns whether it may know that the app exists.
    pub fn knows(&self, app: &AppId) -> bool {
        self.may(Right::Watch).is_ok() || self.may_submit_to(app).is_ok()
    }

    /// Returns whether the caller may read the job. A job without an owner, from AMQP or from
    /// before the first key, is readable by admins only.
    pub fn owns(&self, job: &JobSpec) -> bool {
        match self {
            Self::Trusted => true,
            Self::Holder(key) => key.is_admin() || job.owner.as_ref() == Some(&key.id),
        }
    }

    /// Returns the owner whose jobs a list shows: `requested`, which must be the caller itself
    /// unless it may see all jobs; `None` for all jobs.
    pub fn may_list(&self, requested: Option<KeyId>) -> Result<Option<KeyId>, Denied> {
        self.may(Right::Read)?;
        match self {
            Self::Holder(key) if !key.is_admin() && requested.is_none() => Ok(Some(key.id.clone())),
            Self::Holder(key) if requested.as_ref() == Some(&key.id) => Ok(requested),
            _ => self.may(Right::Administer).map(|()| requested),
        }
    }

    fn has(
        &self,
        allows: impl Fn(&Scope) -> bool,
        needed: impl FnOnce() -> String,
    ) -> Result<(), Denied> {
        match self {
            Self::Trusted => Ok(()),
            Self::Holder(key) if key.is_admin() || key.scopes.iter().any(allows) => Ok(()),
            Self::Holder(key) => Err(Denied {
                key: key.id.clone(),
                needed: needed(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RIGHTS: [Right; 5] = [
        Right::Call,
        Right::Upload,
        Right::Read,
        Right::Watch,
        Right::Administer,
    ];

    fn holder(id: &str, scopes: &[&str]) -> Caller {
        Caller::Holder(Arc::new(ApiKey {
            id: id.parse().unwrap(),
            scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
            limits: Limits::default(),
            created_ms: 0,
        }))
    }

    fn job_of(caller: &Caller) -> JobSpec {
        JobSpec {
            owner: caller.owner().cloned(),
            ..JobSpec::new("a/b".parse().unwrap(), json!({}))
        }
    }

    /// Returns which of [`RIGHTS`] it has.
    fn rights(caller: &Caller) -> [bool; 5] {
        RIGHTS.map(|right| caller.may(right).is_ok())
    }

    #[test]
    fn each_scope_grants_one_right_and_admin_grants_all() {
        assert_eq!(
            rights(&holder("a", &[])),
            [true, false, false, false, false]
        );
        assert_eq!(
            rights(&holder("a", &["submit:*"])),
            [true, true, false, false, false]
        );
        assert_eq!(
            rights(&holder("a", &["read"])),
            [true, false, true, false, false]
        );
        assert_eq!(
            rights(&holder("a", &["watch"])),
            [true, false, false, true, false]
        );
        assert_eq!(rights(&holder("a", &["admin"])), [true; 5]);
        assert_eq!(rights(&Caller::Trusted), [true; 5]);
    }

    #[test]
    fn jobs_go_to_named_apps_only_and_the_error_names_the_missing_scope() {
        let caller = holder("alice-1", &["submit:a/b", "submit:c/*", "read", "watch"]);
        for (app, may) in [
            ("a/b", true),
            ("a/c", false),
            ("c/x", true),
            ("cc/x", false),
        ] {
            let app = app.parse().unwrap();
            assert_eq!(caller.may_submit_to(&app).is_ok(), may, "{app}");
        }
        let refused = caller.may_submit_to(&"a/c".parse().unwrap()).unwrap_err();
        let expected = "key 'alice-1' lacks the scope submit:a/c";
        assert_eq!(refused.to_string(), expected);
        assert!(
            holder("a", &["admin"])
                .may_submit_to(&"x/y".parse().unwrap())
                .is_ok()
        );
    }

    #[test]
    fn jobs_are_read_by_their_owners_and_jobs_without_owner_by_admins() {
        let (alice, bob) = (
            holder("alice", &["read"]),
            holder("bob", &["read", "watch"]),
        );
        let admin = holder("root", &["admin"]);
        let (hers, anonymous) = (job_of(&alice), job_of(&Caller::Trusted));
        assert!(alice.owns(&hers) && !bob.owns(&hers) && admin.owns(&hers));
        assert!(!alice.owns(&anonymous) && admin.owns(&anonymous));
        assert!(Caller::Trusted.owns(&hers) && Caller::Trusted.owns(&anonymous));
    }

    #[test]
    fn a_list_shows_the_callers_own_jobs_and_to_admins_any() {
        let id = |id: &str| Some(id.parse::<KeyId>().unwrap());
        let alice = holder("alice", &["read"]);
        assert_eq!(alice.may_list(None), Ok(id("alice")));
        assert_eq!(alice.may_list(id("alice")), Ok(id("alice")));
        let refused = alice.may_list(id("bob")).unwrap_err().to_string();
        assert_eq!(refused, "key 'alice' lacks the scope admin");
        for all in [holder("root", &["admin"]), Caller::Trusted] {
            assert_eq!(all.may_list(None), Ok(None));
            assert_eq!(all.may_list(id("bob")), Ok(id("bob")));
        }
        assert!(holder("blind", &["submit:*"]).may_list(None).is_err());
    }

    #[test]
    fn apps_are_known_to_callers_that_may_submit_to_them_or_watch() {
        let app = "a/b".parse().unwrap();
        assert!(holder("a", &["submit:a/*"]).knows(&app));
        assert!(holder("a", &["watch"]).knows(&app));
        assert!(!holder("a", &["submit:c/*", "read"]).knows(&app));
    }
}
