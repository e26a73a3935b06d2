//! Programs that run to their end, for their output.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const BOUND: Duration = Duration::from_secs(60);

/// `name` as built by cargo, in an empty folder and the namespace `t-missing`.
pub struct Program {
    command: Command,
    folder: tempfile::TempDir,
}

/// The result of a program.
#[derive(Debug)]
pub struct Output {
    /// Exit status.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Program {
    /// Makes a program with these arguments.
    pub fn new(name: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let test = std::env::current_exe().unwrap();
        let binaries = test.parent().and_then(|deps| deps.parent()).unwrap();
        let mut command = Command::new(binaries.join(name));
        command
            .args(args)
            .current_dir(folder.path())
            .env("WARMQ_NAMESPACE", "t-missing")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Self { command, folder }
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it until its standard error has all of `words`; then sends SIGTERM, checks its exit
    /// status, and returns the output.
    pub async fn run_until(mut self, words: &[&str]) -> String {
        let mut child = self.command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut output = String::new();
        let reading = async {
            while !words.iter().all(|word| output.contains(word)) {
                match lines.next_line().await.unwrap() {
                    Some(line) => output = format!("{output}{line}\n"),
                    None => panic!("it ended without printing all of {words:?}: {output}"),
                }
            }
        };
        tokio::time::timeout(BOUND, reading)
            .await
            .unwrap_or_else(|_| panic!("it did not print all of {words:?}"));
        let pid = child.id().unwrap().to_string();
        let stopped = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(stopped.unwrap().success());
        let ended = tokio::time::timeout(BOUND, child.wait()).await;
        let ended = ended.expect("it does not stop").unwrap();
        assert_eq!(ended.code(), Some(0), "{output}");
        output
    }

    /// Runs it to its end.
    pub async fn run(mut self) -> Output {
        let child = self.command.spawn().unwrap();
        let output = tokio::time::timeout(BOUND, child.wait_with_output())
            .await
            .expect("it neither started nor gave up")
            .unwrap();
        drop(self.folder);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Output {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}
