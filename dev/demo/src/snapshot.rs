//! What the router says of jobs and runners, as the view and the report want it.

use anyhow::bail;
use warmq_cli::client::{Client, JobView};
use warmq_types::ids::{AppId, JobId, RunnerId};
use warmq_types::job::JobRecord;
use warmq_types::runner::RunnerRecord;
use warmq_types::state::JobState;

use crate::plan::PlannedJob;

/// A job of the demo that was submitted.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// What was asked.
    pub planned: PlannedJob,
    /// Its id.
    pub id: JobId,
    /// What the router last said of it; nothing while it has not seen the AMQP message.
    pub view: Option<JobView>,
}

impl Submitted {
    /// Where it stands.
    pub fn state(&self) -> JobState {
        self.view
            .as_ref()
            .map_or(JobState::Queued, |view| view.record.state)
    }

    /// The runner that has or had it.
    pub fn runner(&self) -> Option<&RunnerId> {
        self.view
            .as_ref()
            .and_then(|view| view.record.runner.as_ref())
    }

    /// Whether it found its model loaded; `None` before its end.
    pub fn warm(&self) -> Option<bool> {
        let timings = self.view.as_ref().and_then(|view| view.record.timings);
        timings.map(|timings| timings.warm)
    }
}

/// The jobs that the router has seen, with what it said of them.
pub fn records(jobs: &[Submitted]) -> impl Iterator<Item = (&Submitted, &JobRecord)> {
    jobs.iter()
        .filter_map(|job| Some((job, &job.view.as_ref()?.record)))
}

/// All jobs and runners at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Jobs that were submitted, in that order.
    pub jobs: Vec<Submitted>,
    /// Live runners, in alphabetical order.
    pub runners: Vec<RunnerRecord>,
    /// The most models that one runner was seen to hold.
    pub most_held: usize,
}

impl Snapshot {
    /// Asks the router again about what may have changed.
    ///
    /// # Errors
    /// The router is away, or a job failed.
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

    /// Jobs that ended.
    pub fn done(&self) -> usize {
        self.count(JobState::is_terminal)
    }

    /// Jobs that run.
    pub fn running(&self) -> usize {
        self.count(|state| state == JobState::Running)
    }

    /// Jobs that wait, in the queue or at a runner.
    pub fn waiting(&self) -> usize {
        self.jobs.len() - self.done() - self.running()
    }

    /// The job that `runner` works on.
    pub fn job_on(&self, runner: &RunnerId) -> Option<&Submitted> {
        self.jobs
            .iter()
            .find(|job| job.state() == JobState::Running && job.runner() == Some(runner))
    }

    fn count(&self, wanted: impl Fn(JobState) -> bool) -> usize {
        self.jobs.iter().filter(|job| wanted(job.state())).count()
    }
}

fn failure(planned: &PlannedJob, view: &JobView) -> String {
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
