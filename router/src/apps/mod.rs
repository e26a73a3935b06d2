//! Which apps exist, and what input each takes.
//!
//! What the file declares may be replaced while jobs come in ([`crate::reload`]): whoever decides about a submission takes one
//! snapshot of it. An app exists once the file names it or a worker has registered it. Workers publish the JSON Schema of their input,
//! so a bad input is refused at the door instead of after a wait in the queue.

mod standings;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonschema::Validator;
use serde_json::Value;
use tokio::sync::{Mutex, watch};
use warmq_common::config::AppConfig;
use warmq_common::ids::AppId;
use warmq_common::job::FieldError;
use warmq_common::plain::shortened;
use warmq_common::store::{Error, Store};

use crate::declared::Declared;
use standings::Standings;

/// How long what Redis said of an app is believed.
const FRESH: Duration = Duration::from_secs(2);

/// A cheap handle on what is known of apps.
#[derive(Clone)]
pub struct AppDirectory {
    store: Store,
    declared: watch::Sender<Arc<Declared>>,
    known: Arc<Mutex<HashMap<AppId, Known>>>,
    standings: Standings,
}

/// What Redis said of an app's input, and when.
type Known = (Instant, Option<Arc<Validator>>);

/// What is known of one app.
#[derive(Clone)]
pub struct App {
    /// Its settings.
    pub config: AppConfig,
    validator: Option<Arc<Validator>>,
}

impl AppDirectory {
    /// A directory over the file's apps and those in Redis.
    pub fn new(store: Store, declared: Arc<Declared>) -> Self {
        Self {
            store,
            declared: watch::Sender::new(declared),
            known: Arc::default(),
            standings: Standings::default(),
        }
    }

    /// What the file declares now.
    pub fn declared(&self) -> Arc<Declared> {
        self.declared.borrow().clone()
    }

    /// Replaces what the file declares.
    pub fn declare(&self, declared: Arc<Declared>) {
        self.declared.send_replace(declared);
    }

    /// Returns once an app has other settings than `config`.
    pub async fn differs(&self, app: &AppId, config: &AppConfig) {
        let mut declared = self.declared.subscribe();
        let changed = declared.wait_for(|declared| declared.config(app) != *config);
        // We hold the sender, so it is there.
        let _ = changed.await;
    }

    /// An app as the file has it now; `None` when neither the file nor a worker knows it.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn find(&self, id: &AppId) -> Result<Option<App>, Error> {
        self.find_in(&self.declared(), id).await
    }

    /// An app as `declared` has it; `None` when neither that nor a worker knows it.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn find_in(&self, declared: &Declared, id: &AppId) -> Result<Option<App>, Error> {
        let app = |validator| App {
            config: declared.config(id),
            validator,
        };
        if let Some((read, validator)) = self.known.lock().await.get(id)
            && read.elapsed() < FRESH
        {
            return Ok(Some(app(validator.clone())));
        }
        let configured = declared.apps.names().any(|name| name == id);
        if !configured && !self.store.has_app(id).await? {
            return Ok(None);
        }
        let validator = self.store.schema(id).await?.as_ref().and_then(compile);
        let entry = (Instant::now(), validator.clone());
        self.known.lock().await.insert(id.clone(), entry);
        Ok(Some(app(validator)))
    }

    /// All apps, the file's and Redis'.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn all(&self) -> Result<BTreeSet<AppId>, Error> {
        let mut apps = self.store.apps().await?;
        apps.extend(self.declared().apps.names().cloned());
        Ok(apps)
    }

    /// The settings of an app: the file's, or the defaults.
    pub fn config(&self, id: &AppId) -> AppConfig {
        self.declared.borrow().config(id)
    }
}

impl App {
    /// What is wrong with `input`, all but for the 33rd thing and what follows; nothing before the app's first worker came.
    pub fn problems(&self, input: &Value) -> Vec<FieldError> {
        match &self.validator {
            Some(validator) => (validator.iter_errors(input).take(MOST_PROBLEMS))
                .map(field_error)
                .collect(),
            None => Vec::new(),
        }
    }
}

/// Problems that one answer tells: an array of a million wrong items would have as many.
const MOST_PROBLEMS: usize = 32;

/// Longest sentence about a problem, bytes; a schema's complaint quotes the input, all ten megabytes of it.
const LONGEST_PROBLEM: usize = 300;

fn compile(schema: &Value) -> Option<Arc<Validator>> {
    match jsonschema::validator_for(schema) {
        Ok(validator) => Some(Arc::new(validator)),
        Err(error) => {
            tracing::warn!(%error, "a worker published an input schema that is none; inputs are not checked");
            None
        }
    }
}

/// A schema's complaint in fal's shape.
fn field_error(error: jsonschema::ValidationError<'_>) -> FieldError {
    let mut loc = vec![Value::from("body")];
    for part in error.instance_path().as_str().split('/').skip(1) {
        loc.push(match part.parse::<u64>() {
            Ok(index) => index.into(),
            Err(_) => shortened(part.replace("~1", "/").replace("~0", "~"), LONGEST_PROBLEM).into(),
        });
    }
    let mut error_type = error.kind().keyword().to_owned();
    if let jsonschema::error::ValidationErrorKind::Required { property } = error.kind() {
        loc.push(property.clone());
        error_type = "missing".to_owned();
    }
    FieldError {
        loc,
        msg: shortened(error.to_string(), LONGEST_PROBLEM),
        error_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn app(schema: Value) -> App {
        App {
            config: AppConfig::default(),
            validator: compile(&schema),
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let app = app(json!({
            "type": "object",
            "required": ["prompt"],
            "properties": {"prompt": {"type": "string"}, "width": {"type": "integer", "minimum": 8}},
        }));
        assert!(
            app.problems(&json!({"prompt": "a", "width": 64}))
                .is_empty()
        );
        let mut problems = app.problems(&json!({"width": 7}));
        problems.sort_by_key(|problem| problem.error_type.clone());
        let found: Vec<_> = problems
            .iter()
            .map(|problem| (json!(problem.loc), problem.error_type.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                (json!(["body", "width"]), "minimum"),
                (json!(["body", "prompt"]), "missing"),
            ]
        );
    }

    #[test]
    fn an_answer_is_short_however_much_is_wrong() {
        let app = app(json!({
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "integer"}},
        }));
        let huge = "é".repeat(1 << 20);
        let problems = app.problems(&json!({huge.as_str(): vec![huge.as_str(); 100]}));
        assert_eq!(problems.len(), MOST_PROBLEMS);
        let answer = serde_json::to_string(&problems).unwrap();
        assert!(answer.len() < 64 * 1024, "{}", answer.len());
    }

    #[test]
    fn a_schema_that_is_none_checks_nothing() {
        assert!(
            app(json!({"type": "no such type"}))
                .problems(&json!(7))
                .is_empty()
        );
    }
}
