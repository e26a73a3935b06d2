//! The assumed load of apps in a dry run, which has no router to query.

use std::str::FromStr;

use warmq_config::AppConfig;
use warmq_rules::AppLoadEstimate;
use warmq_types::ids::AppId;

use crate::exit::Usage;

/// An assumption about one app: `acme/l4=wait_s:3,runners:2`.
#[derive(Debug, Clone, PartialEq)]
pub struct AppAssumption {
    /// The app.
    pub app: AppId,
    assumed: AssumedLoad,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct AssumedLoad {
    cost: Option<f64>,
    wait_s: Option<f64>,
    run_s: Option<f64>,
    runners: Option<u64>,
    idle: Option<u64>,
    queued: Option<u64>,
}

impl AppAssumption {
    /// Returns the load of an app with these settings.
    pub fn load(&self, config: &AppConfig) -> AppLoadEstimate {
        self.assumed.load(config)
    }
}

/// Returns the default load: one idle runner, an empty queue.
pub fn load(config: &AppConfig) -> AppLoadEstimate {
    AssumedLoad::default().load(config)
}

impl AssumedLoad {
    fn load(&self, config: &AppConfig) -> AppLoadEstimate {
        let runners = self.runners.unwrap_or(1);
        let wait_s = if runners == 0 { f64::INFINITY } else { 0.0 };
        AppLoadEstimate {
            cost: self.cost.unwrap_or(config.cost),
            wait_s: self.wait_s.unwrap_or(wait_s),
            run_s: self.run_s.unwrap_or(config.prior_run.as_secs_f64()),
            runners,
            idle: self.idle.unwrap_or(runners.min(1)),
            queued: self.queued.unwrap_or(0),
        }
    }

    fn set(&mut self, field: &str, text: &str) -> Result<(), Usage> {
        match field {
            "cost" => self.cost = Some(number(text)?),
            "wait_s" => self.wait_s = Some(number(text)?),
            "run_s" => self.run_s = Some(number(text)?),
            "runners" => self.runners = Some(whole(text)?),
            "idle" => self.idle = Some(whole(text)?),
            "queued" => self.queued = Some(whole(text)?),
            other => {
                return Err(Usage(format!(
                    "unknown app field '{other}'; known: cost, wait_s, run_s, runners, idle, queued"
                )));
            }
        }
        Ok(())
    }
}

impl FromStr for AppAssumption {
    type Err = Usage;
    fn from_str(text: &str) -> Result<Self, Usage> {
        let form = || {
            Usage(format!(
                "'{text}' is not an assumption: write owner/name=wait_s:3,idle:0"
            ))
        };
        let (app, fields) = text.split_once('=').ok_or_else(form)?;
        let app = AppId::parse(app).map_err(|error| Usage(error.to_string()))?;
        let mut assumed = AssumedLoad::default();
        for field in fields.split(',') {
            let (field, text) = field.split_once(':').ok_or_else(form)?;
            assumed.set(field.trim(), text.trim())?;
        }
        Ok(Self { app, assumed })
    }
}

fn number(text: &str) -> Result<f64, Usage> {
    let number = text.parse().ok().filter(|number: &f64| *number >= 0.0);
    number.ok_or_else(|| Usage(format!("'{text}' is not a number from 0")))
}

fn whole(text: &str) -> Result<u64, Usage> {
    let number = text.parse();
    number.map_err(|_| Usage(format!("'{text}' is not a whole number from 0")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_without_assumptions_is_idle() {
        let config = AppConfig {
            cost: 0.5,
            ..AppConfig::default()
        };
        let idle = load(&config);
        assert_eq!((idle.cost, idle.wait_s, idle.run_s), (0.5, 0.0, 2.0));
        assert_eq!((idle.runners, idle.idle, idle.queued), (1, 1, 0));
        let assumed = |text: &str| text.parse::<AppAssumption>().unwrap().load(&config);
        let busy = assumed("a/b=wait_s:3,runners:2,idle:0,queued:5,run_s:2.5,cost:1");
        assert_eq!((busy.cost, busy.wait_s, busy.run_s), (1.0, 3.0, 2.5));
        assert_eq!((busy.runners, busy.idle, busy.queued), (2, 0, 5));
        assert_eq!(assumed("a/b=runners:0").wait_s, f64::INFINITY);
        assert_eq!(assumed("a/b=runners:0").idle, 0);
    }

    #[test]
    fn invalid_assumptions_are_rejected_with_the_reason() {
        for (text, what) in [
            ("a/b", "write owner/name="),
            ("a/b=idle", "write owner/name="),
            ("B=idle:1", "'B' is not an app name"),
            ("a/b=speed:1", "unknown app field 'speed'"),
            ("a/b=idle:0.5", "not a whole number"),
            ("a/b=wait_s:-1", "not a number from 0"),
            ("a/b=wait_s:NaN", "not a number from 0"),
        ] {
            let error = text.parse::<AppAssumption>().unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
