//! How apps are supposed to stand in a trial: no router is asked, so nobody knows.

use std::str::FromStr;

use warmq_config::AppConfig;
use warmq_rules::AppLoadEstimate;
use warmq_types::ids::AppId;

use crate::exit::Usage;

/// What is said of one app: `acme/l4=wait_s:3,runners:2`.
#[derive(Debug, Clone, PartialEq)]
pub struct Supposed {
    /// The app.
    pub app: AppId,
    said: Said,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Said {
    cost: Option<f64>,
    wait_s: Option<f64>,
    run_s: Option<f64>,
    runners: Option<u64>,
    idle: Option<u64>,
    queued: Option<u64>,
}

impl Supposed {
    /// The same, of an app that the file sets like this.
    pub fn standing(&self, config: &AppConfig) -> AppLoadEstimate {
        self.said.standing(config)
    }
}

/// An app of which nothing is said: one idle runner, and nobody waits.
pub fn standing(config: &AppConfig) -> AppLoadEstimate {
    Said::default().standing(config)
}

impl Said {
    fn standing(&self, config: &AppConfig) -> AppLoadEstimate {
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
                    "apps have no '{other}'; they have cost, wait_s, run_s, runners, idle, queued"
                )));
            }
        }
        Ok(())
    }
}

impl FromStr for Supposed {
    type Err = Usage;
    fn from_str(text: &str) -> Result<Self, Usage> {
        let form = || {
            Usage(format!(
                "'{text}' is no app; write owner/name=wait_s:3,idle:0"
            ))
        };
        let (app, fields) = text.split_once('=').ok_or_else(form)?;
        let app = AppId::parse(app).map_err(|error| Usage(error.to_string()))?;
        let mut said = Said::default();
        for field in fields.split(',') {
            let (field, text) = field.split_once(':').ok_or_else(form)?;
            said.set(field.trim(), text.trim())?;
        }
        Ok(Self { app, said })
    }
}

fn number(text: &str) -> Result<f64, Usage> {
    let number = text.parse().ok().filter(|number: &f64| *number >= 0.0);
    number.ok_or_else(|| Usage(format!("'{text}' is no number from 0")))
}

fn whole(text: &str) -> Result<u64, Usage> {
    let number = text.parse();
    number.map_err(|_| Usage(format!("'{text}' is no whole number from 0")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_as_good_as_it_can_be() {
        let config = AppConfig {
            cost: 0.5,
            ..AppConfig::default()
        };
        let idle = standing(&config);
        assert_eq!((idle.cost, idle.wait_s, idle.run_s), (0.5, 0.0, 2.0));
        assert_eq!((idle.runners, idle.idle, idle.queued), (1, 1, 0));
        let said = |text: &str| text.parse::<Supposed>().unwrap().standing(&config);
        let busy = said("a/b=wait_s:3,runners:2,idle:0,queued:5,run_s:2.5,cost:1");
        assert_eq!((busy.cost, busy.wait_s, busy.run_s), (1.0, 3.0, 2.5));
        assert_eq!((busy.runners, busy.idle, busy.queued), (2, 0, 5));
        assert_eq!(said("a/b=runners:0").wait_s, f64::INFINITY);
        assert_eq!(said("a/b=runners:0").idle, 0);
    }

    #[test]
    fn what_is_no_app_or_no_number_is_told() {
        for (text, what) in [
            ("a/b", "write owner/name="),
            ("a/b=idle", "write owner/name="),
            ("B=idle:1", "'B' is not an app name"),
            ("a/b=speed:1", "apps have no 'speed'"),
            ("a/b=idle:0.5", "no whole number"),
            ("a/b=wait_s:-1", "no number from 0"),
            ("a/b=wait_s:NaN", "no number from 0"),
        ] {
            let error = text.parse::<Supposed>().unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
