//! Jobs and runners as the router reports them.

use anyhow::bail;
use warmq_cli::client::Client;
use warmq_types::http::Job;
use warmq_types::ids::{AppId, JobId, RunnerId};
use warmq_types::job::JobRecord;
use warmq_types::runner::RunnerRecord;
use warmq_types::state::JobState;

use crate::plan::PlannedJob;

/// A job of the demo that was submitted.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The planned job.
    pub planned: PlannedJob,
    /// Its id.
    pub id: JobId,
    /// The router's latest response; `None` until it has processed the AMQP message.
    pub view: Option<Job>,
}

impl Submitted {
    /// Returns the state.
    pub fn state(&self) -> JobState {
        self.view
            .as_ref()
            .map_or(JobState::Queued, |view| view.record.state)
    }

    /// Returns the runner, if any.
    pub fn runner(&self) -> Option<&RunnerId> {
        self.view
            .as_ref()
            .and_then(|view| view.record.runner.as_ref())
    }

    /// Returns whether the run was warm; `None` before its end.
    pub fn warm(&self) -> Option<bool> {
        let timings = self.view.as_ref().and_then(|view| view.record.timings);
        timings.map(|timings| timings.warm)
    }
}

/// Returns the jobs that the router has processed, with their records.
pub fn records(jobs: &[Submitted]) -> impl Iterator<Item = (&Submitted, &JobRecord)> {
    jobs.iter()
        .filter_map(|job| Some((job, &job.view.as_ref()?.record)))
}

/// All jobs and runners at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Submitted jobs, in order of submission.
    pub jobs: Vec<Submitted>,
    /// Live runners, in alphabetical order.
    pub runners: Vec<RunnerRecord>,
    /// The most models that one runner held.
    pub most_held: usize,
}

impl Snapshot {
    /// Polls the router for jobs that have not ended, and for the runners.
    ///
    /// # Errors
    /// The router is unreachable, or a job failed.
    pub async fn refresh(&mut self, client: &Client, app: &AppId) -> anyhow::Result<()> {
        for job in self
            .jobs
            .iter_mut()
            .filter(|job| !job.state().is_terminal())
        {
            job.view = client.job(job.id).await?;
            if let Some(view) = &job.view
                && view.record.state.is_terminal()
                && view.record.state != JobState::Succeeded
            {
                bail!(failure(&job.planned, view));
            }
        }
        self.runners = client.runners(Some(app)).await?;
        let held = self.runners.iter().map(|runner| runner.hints.len()).max();
        self.most_held = self.most_held.max(held.unwrap_or(0));
        Ok(())
    }

    /// Returns the number of ended jobs.
    pub fn done(&self) -> usize {
        self.count(JobState::is_terminal)
    }

    /// Returns the number of running jobs.
    pub fn running(&self) -> usize {
        self.count(|state| state == JobState::Running)
    }

    /// Returns the number of waiting jobs, in the queue or at a runner.
    pub fn waiting(&self) -> usize {
        self.jobs.len() - self.done() - self.running()
    }

    /// Returns the job that `runner` runs.
    pub fn job_on(&self, runner: &RunnerId) -> Option<&Submitted> {
        self.jobs
            .iter()
            .find(|job| job.state() == JobState::Running && job.runner() == Some(runner))
    }

    fn count(&self, wanted: impl Fn(JobState) -> bool) -> usize {
        self.jobs.iter().filter(|job| wanted(job.state())).count()
    }
}

fn failure(planned: &PlannedJob, view: &Job) -> String {
    let runner = match &view.record.runner {
        Some(runner) => format!(" on {runner}"),
        None => String::new(),
    };
    let why = match &view.record.error {
        Some(error) => error.message.clone(),
        None => "without an error".to_owned(),
    };
    let state = view.record.state;
    let (number, model) = (planned.number, planned.model);
    format!("job #{number} ({model}) {state}{runner}: {why}")
}
