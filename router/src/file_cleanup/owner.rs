//! The owner of a stored file, by its key. Pure.

use warmq_types::ids::{AppId, JobId};

/// The owner of a stored file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// The result of a job: `<owner>/<app>/<job>/…`.
    Job(AppId, JobId),
    /// The input of a job: `.inputs/<owner>/<app>/<job>/…`.
    Input(AppId, JobId),
    /// An uploaded file: `uploads/<id>/<name>`.
    Upload(String),
    /// A part of an upload that was not completed: `uploads/<id>/.parts/<number>`.
    UploadPart,
    /// A probe of a worker: `<owner>/<app>/probes/<name>`.
    Probe,
}

impl Owner {
    /// Parses a key; `None` if warmq writes no such files.
    pub(super) fn of(key: &str) -> Option<Self> {
        let parts: Vec<&str> = key.split('/').collect();
        let job = |owner: &str, app: &str, job: &str| {
            let app = AppId::parse(&format!("{owner}/{app}")).ok()?;
            Some((app, job.parse().ok()?))
        };
        match parts[..] {
            [".inputs", owner, app, id, _] => {
                job(owner, app, id).map(|(app, job)| Self::Input(app, job))
            }
            ["uploads", _, ".parts", _] => Some(Self::UploadPart),
            // The id of an upload is no id of a job.
            ["uploads", id, _] if id.parse::<JobId>().is_err() => Some(Self::Upload(id.to_owned())),
            [_, _, "probes", _] => Some(Self::Probe),
            [owner, app, id, _, ..] => job(owner, app, id).map(|(app, job)| Self::Job(app, job)),
            _ => None,
        }
    }

    /// Returns the folder that [`warmq_store::FileRetention::keep`] names, and the job.
    pub(super) fn folder(&self) -> Option<(String, Option<JobId>)> {
        match self {
            Self::Job(app, job) | Self::Input(app, job) => {
                Some((format!("{app}/{job}"), Some(*job)))
            }
            Self::Upload(id) => Some((format!("uploads/{id}"), None)),
            Self::UploadPart | Self::Probe => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_their_owner_and_foreign_files_have_none() {
        let (app, job) = (AppId::parse("a/b").unwrap(), JobId::generate());
        let owner = |key: &str| Owner::of(key);
        let jobs = Some(Owner::Job(app.clone(), job));
        assert_eq!(owner(&format!("a/b/{job}/3/0.png")), jobs);
        assert_eq!(owner(&format!("a/b/{job}/0.png")), jobs);
        let input = Some(Owner::Input(app, job));
        assert_eq!(owner(&format!(".inputs/a/b/{job}/ab.json")), input);
        let upload = Some(Owner::Upload("0a1b".to_owned()));
        assert_eq!(owner("uploads/0a1b/cat.png"), upload);
        assert_eq!(owner("uploads/0a1b/.parts/2"), Some(Owner::UploadPart));
        assert_eq!(owner("a/b/probes/r-1"), Some(Owner::Probe));
        // An app whose owner is called uploads.
        let app = AppId::parse("uploads/x").unwrap();
        assert_eq!(
            owner(&format!("uploads/x/{job}/1/0.png")),
            Some(Owner::Job(app, job))
        );
        for foreign in [
            "readme.txt",
            "backup/2026/all.tar",
            "a/b/notes/x",
            ".inputs/x",
            "",
        ] {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }
}
