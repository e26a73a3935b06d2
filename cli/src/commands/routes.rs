//! `warmq routes`

use std::path::Path;

use warmq_config::{Apps, Problems, Settings};
use warmq_explain::count;
use warmq_rules::Routes;

use crate::args::{self, RouteTest};
use crate::client::pretty;
use crate::dry_run::{Sample, assumed_loads, attempt};
use crate::exit::{self, Usage};
use crate::{dry_run, input};

/// Checks a file, or tries out its routes, without a router. `key`: the API key of the dry run.
pub(super) fn run(command: args::Routes, key: Option<&str>, json: bool) -> anyhow::Result<u8> {
    match command {
        args::Routes::Check { file } => {
            let (apps, routes) = read(&file)?;
            let (apps, routes) = (apps.names().count(), routes.len());
            match json {
                true => println!(
                    "{}",
                    pretty(&serde_json::json!({"apps": apps, "routes": routes}))
                ),
                false => println!(
                    "no mistakes: {}, {}",
                    count(apps as u64, "app", "apps"),
                    count(routes as u64, "route", "routes")
                ),
            }
            Ok(exit::OK)
        }
        args::Routes::Test(test) => {
            let (apps, routes) = read(&test.file)?;
            let dry_runs = dry_runs(&apps, &routes, test, key)?;
            match json {
                true => println!("{}", pretty(&dry_runs)),
                false => dry_runs.iter().for_each(|dry_run| println!("{dry_run}")),
            }
            let refused = dry_runs.iter().any(dry_run::DryRun::is_refused);
            Ok(if refused { exit::USAGE } else { exit::OK })
        }
    }
}

fn read(file: &Path) -> Result<(Apps, Routes), Problems> {
    let mut settings = Settings::read(Some(file));
    let apps = Apps::read(&mut settings);
    let routes = Routes::read(&mut settings, &apps);
    settings.finish(Some((apps, routes)))
}

fn dry_runs(
    apps: &Apps,
    routes: &Routes,
    test: RouteTest,
    key: Option<&str>,
) -> anyhow::Result<Vec<dry_run::DryRun>> {
    let declared = |name| apps.names().any(|app| app == name);
    if let Some(unknown) = test
        .apps
        .iter()
        .find(|assumptions| !declared(&assumptions.app))
    {
        let name = &unknown.app;
        return Err(Usage(format!("app '{name}' is not declared in the file")).into());
    }
    let sample = Sample {
        apps: assumed_loads(apps, &test.apps),
        input: input::read(&test.input)?,
        headers: test
            .headers
            .into_iter()
            .map(|header| (header.name, header.text))
            .collect(),
        // Only the id of a key, which is not secret.
        key: key
            .map_or("", |key| key.split(':').next().unwrap_or_default())
            .to_owned(),
    };
    let names: Vec<_> = match test.route {
        Some(name) if routes.get(&name).is_none() => {
            return Err(Usage(format!("route '{name}' is not declared in the file")).into());
        }
        Some(name) => vec![name],
        None => routes.iter().map(|(name, _)| name.clone()).collect(),
    };
    let dry_runs = names.iter().map(|name| attempt(routes, name, &sample));
    Ok(dry_runs.collect())
}
