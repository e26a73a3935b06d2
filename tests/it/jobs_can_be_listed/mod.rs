//! `GET /v1/jobs` lists jobs, newest first, at a cost that does not depend on their number.
//!
//! | file | subject |
//! | --- | --- |
//! | `pages` | complete pages while jobs arrive, run and expire |
//! | `filters` | each filter, their combinations, mistakes in them |
//! | `callers` | which jobs a key sees |
//! | `cost` | what a page costs among 6,000 and 50,000 jobs |

mod callers;
mod cost;
mod filters;
mod pages;

use serde_json::Value;
use warmq_tests::System;
use warmq_types::http::Jobs;
use warmq_types::ids::JobId;
use warmq_types::job::JobSummary;

/// Requests one page.
async fn page(system: &System, query: &str) -> Jobs {
    let answer = system.get(&format!("/v1/jobs?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {:?}", answer.body);
    serde_json::from_value(answer.body).unwrap()
}

/// Requests all pages.
async fn all(system: &System, query: &str) -> Vec<JobSummary> {
    let mut found = Vec::new();
    let mut before = String::new();
    loop {
        let Jobs { jobs, next } = page(system, &format!("{query}{before}")).await;
        found.extend(jobs);
        match next {
            Some(next) => before = format!("&before={next}"),
            None => return found,
        }
    }
}

fn ids(jobs: &[JobSummary]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

/// Returns the sentence of an error.
fn detail(body: &Value) -> &str {
    body["detail"].as_str().unwrap()
}
