//! Each fenced block of a language that can be run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;
use warmq_testkit::{Worker, WorkerOptions};
use warmq_tests::System;

use super::{document, documents, root};
use Check::{Config, Flags, JavaScript, Keys, NotRun, Python, Shell, Webhook};

/// Timeout for one block, on a busy machine.
const BOUND: Duration = Duration::from_secs(120);

/// The app that the documents submit to.
const APP: &str = "warmq/diffusion";

/// How a block is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// `warmq routes check` accepts it.
    Config,
    /// It is run by sh.
    Shell,
    /// It is run by sh on a router of its own: from then on, that router requires keys.
    Keys,
    /// It starts processes that stay: each program accepts the flags, with `--help` behind them.
    Flags,
    /// It is run, and prints the URL of a picture.
    Python,
    /// It is run, and verifies a webhook of the router.
    Webhook,
    /// It is run by Node.js, and prints the URL of a picture.
    JavaScript,
    /// It is not run, for this reason.
    NotRun(&'static str),
}

/// Every block: its document, the beginning of its first line, and its check.
const BLOCKS: [(&str, &str, Check); 22] = [
    (
        "README.md",
        "make demo",
        NotRun("it installs servers and builds releases; CI runs `make test`"),
    ),
    ("README.md", "curl", Shell),
    ("README.md", "import os", Python),
    ("README.md", "import json, pika", Python),
    (
        "docs/quickstart.md",
        "make up",
        NotRun("it installs servers and builds releases"),
    ),
    (
        "docs/quickstart.md",
        "docker compose",
        NotRun("it needs docker and builds images"),
    ),
    ("docs/quickstart.md", "warmq submit", Shell),
    ("docs/quickstart.md", "warmq-router", Flags),
    ("docs/http-api.md", "curl", Shell),
    ("docs/http-api.md", "import { fal }", JavaScript),
    ("docs/webhooks.md", "import base64", Webhook),
    ("docs/routes-and-flows.md", "[apps.", Config),
    ("docs/routes-and-flows.md", "warmq routes check", Shell),
    ("docs/configuration.md", "namespace", Config),
    (
        "docs/operations.md",
        "kubectl",
        NotRun("it needs a Kubernetes cluster"),
    ),
    ("docs/security.md", "export WARMQ_KEY", Keys),
    ("docs/models-and-engines.md", "curl", Shell),
    ("docs/models-and-engines.md", "warmq-worker models", Shell),
    ("docs/models-and-engines.md", "warmq-worker generate", Shell),
    ("docs/models-and-engines.md", "warmq-worker --app", Flags),
    ("docs/runner-protocol.md", "warmq-worker --engine", Flags),
    ("docs/runner-protocol.md", "warmq-worker --app", Flags),
];

/// A fenced block.
#[derive(Debug)]
struct Block {
    document: String,
    language: String,
    text: String,
}

impl Block {
    fn is(&self, document: &str, begin: &str) -> bool {
        self.document == document && self.text.starts_with(begin)
    }
}

/// Returns the blocks of all documents whose language can be run.
fn blocks() -> Vec<Block> {
    documents()
        .into_iter()
        .flat_map(|(document, text)| {
            let fenced: Vec<String> = text
                .split("\n```")
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect();
            fenced.into_iter().filter_map(move |block| {
                let (language, text) = block.split_once('\n')?;
                Some(Block {
                    document: document.clone(),
                    language: language.to_owned(),
                    text: text.to_owned(),
                })
            })
        })
        .filter(|block| !block.language.is_empty())
        .collect()
}

/// Returns the blocks that are checked as `check`.
fn checked_as(check: Check) -> Vec<Block> {
    let wanted: Vec<_> = BLOCKS
        .into_iter()
        .filter(|(_, _, kind)| *kind == check)
        .collect();
    let is_wanted = |block: &Block| {
        let mut wanted = wanted.iter();
        wanted.any(|(document, begin, _)| block.is(document, begin))
    };
    let found: Vec<Block> = blocks().into_iter().filter(is_wanted).collect();
    assert!(!found.is_empty(), "no block is checked as {check:?}");
    found
}

#[test]
fn each_block_is_checked_or_names_the_reason() {
    let blocks = blocks();
    for block in &blocks {
        let languages = ["sh", "toml", "python", "js"];
        let language = block.language.as_str();
        assert!(languages.contains(&language), "{block:?}: unknown language");
        let mut listed = BLOCKS
            .into_iter()
            .filter(|(document, begin, _)| block.is(document, begin));
        let (_, _, check) = listed
            .next()
            .unwrap_or_else(|| panic!("list how it is checked: {block:#?}"));
        assert_eq!(listed.next(), None, "it is listed twice: {block:#?}");
        let expected: &[&str] = match check {
            Config => &["toml"],
            Shell | Keys | Flags => &["sh"],
            Python | Webhook => &["python"],
            JavaScript => &["js"],
            NotRun(reason) => {
                assert!(!reason.is_empty());
                &languages
            }
        };
        assert!(expected.contains(&language), "{block:#?} is not {check:?}");
    }
    for (document, begin, _) in BLOCKS.into_iter() {
        let exists = blocks.iter().any(|block| block.is(document, begin));
        assert!(exists, "{document} has no block that begins with '{begin}'");
    }
}

/// A router with a worker for [`APP`], and a folder in which commands run.
struct Sandbox {
    system: System,
    folder: TempDir,
    /// A job that has succeeded.
    job: String,
    /// A URL that takes a file.
    upload_url: String,
}

impl Sandbox {
    /// Starts it; the worker is the caller's to keep.
    async fn start() -> (Self, Worker) {
        let system = System::with_config("fetch_allow = '127.0.0.0/8'").await;
        let models = root().join("models");
        let worker = WorkerOptions::diffusion("painter", APP, models);
        let worker = system.worker(worker).await;
        let input = json!({"model": "shapes", "prompt": "a red circle on a blue background"});
        let job = system.submit_to(APP, "shapes", input).await;
        system.succeeded(job).await;
        let result = system
            .get(&format!("/queue/{APP}/requests/{job}"))
            .await
            .body;
        let picture = system
            .fetch(result["images"][0]["url"].as_str().unwrap())
            .await;
        let folder = tempfile::tempdir().unwrap();
        for name in ["cat.png", "circle.png"] {
            std::fs::write(folder.path().join(name), &picture.bytes).unwrap();
        }
        // Errors of HTTP fail curl, and with it the block.
        std::os::unix::fs::symlink(root().join("models"), folder.path().join("models")).unwrap();
        std::fs::write(folder.path().join(".curlrc"), "fail\nsilent\nshow-error\n").unwrap();
        let routes = checked_as(Config);
        let routes = routes.iter().find(|block| block.text.contains("[routes"));
        std::fs::write(folder.path().join("warmq.toml"), &routes.unwrap().text).unwrap();
        let announced = system.initiate_upload("cat.png", "image/png", "{}").await;
        let upload_url = announced.body["upload_url"].as_str().unwrap().to_owned();
        let sandbox = Self {
            system,
            folder,
            job: job.to_string(),
            upload_url,
        };
        (sandbox, worker)
    }

    /// Returns `text` with this system's addresses and names in place of the documents'.
    fn fill(&self, text: &str) -> String {
        let testbed = &self.system.testbed;
        let jobs = format!("\"{}\"", testbed.topology().jobs_exchange());
        let text = text
            .replace("http://127.0.0.1:8080", self.system.router.url())
            .replace(
                "amqp://guest:guest@127.0.0.1:5672/%2f",
                testbed.amqp_url().expose(),
            )
            .replace("\"warmq.jobs\"", &jobs)
            .replace("UPLOAD_URL", &self.upload_url);
        let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words
            .map(|word| match word.strip_prefix("ID") {
                Some(end) if end.chars().all(|c| !c.is_ascii_alphanumeric() && c != '_') => {
                    format!("{}{end}", self.job)
                }
                _ => word.to_owned(),
            })
            .collect()
    }

    /// Runs a program in the folder and returns what it printed; fails unless it succeeds.
    async fn run(&self, mut command: Command, text: &str) -> String {
        let others = std::env::var("PATH").unwrap();
        command
            .env("PATH", format!("{}:{others}", binaries().display()))
            .env("CURL_HOME", self.folder.path())
            .env("WARMQ_URL", self.system.router.url())
            .env_remove("WARMQ_KEY")
            .kill_on_drop(true);
        let output = tokio::time::timeout(BOUND, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("no end within {BOUND:?}: {text}"));
        let output = output.unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{printed}\n{errors}");
        printed
    }

    async fn shell(&self, text: &str) -> String {
        let text = self.fill(text);
        let mut command = Command::new("sh");
        command
            .args(["-euc", &text])
            .current_dir(self.folder.path());
        self.run(command, &text).await
    }

    async fn python(&self, text: &str) -> String {
        let text = self.fill(text);
        let python = installed(root().join(".venv/bin/python"));
        let mut command = Command::new(python);
        command.args(["-c", &text]).current_dir(self.folder.path());
        self.run(command, &text).await
    }

    async fn node(&self, text: &str) -> String {
        let text = self.fill(text);
        let clients = root().join("tests/clients");
        installed(clients.join("node_modules/@fal-ai/client"));
        let mut command = Command::new("node");
        command
            .args(["--input-type=module", "-e", &text])
            .current_dir(clients);
        self.run(command, &text).await
    }

    /// Fails unless the last printed line is the URL of a picture.
    async fn shows_a_picture(&self, printed: &str) {
        let url = printed.lines().last().unwrap_or_default();
        let picture = self.system.fetch(url).await;
        assert!(picture.bytes.starts_with(b"\x89PNG"), "{printed}");
    }
}

/// Fails if what `make setup-test` installs is missing.
fn installed(path: PathBuf) -> PathBuf {
    assert!(
        path.exists(),
        "`make setup-test` installs {}",
        path.display()
    );
    path
}

/// The folder of the programs as cargo built them.
fn binaries() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_owned()
}

#[tokio::test]
async fn commands_and_snippets_work_as_they_are_printed() {
    let (sandbox, _worker) = Sandbox::start().await;
    for block in checked_as(Shell) {
        sandbox.shell(&block.text).await;
    }
    for block in checked_as(Python) {
        let printed = sandbox.python(&block.text).await;
        sandbox.shows_a_picture(&printed).await;
    }
    for block in checked_as(JavaScript) {
        let printed = sandbox.node(&block.text).await;
        sandbox.shows_a_picture(&printed).await;
    }
    for block in checked_as(Webhook) {
        let text = format!("{}\n{RECEIVER}", block.text);
        sandbox.python(&text).await;
    }
    sandbox.system.cleanup().await;
}

/// Receives a webhook of a job, and verifies it with the function of the document.
const RECEIVER: &str = r#"
import http.server
from nacl.exceptions import BadSignatureError

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        Receiver.received = self.headers, self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
webhook = f"http://127.0.0.1:{server.server_port}/"
job = json.dumps({"model": "shapes", "prompt": "a red circle on a blue background"}).encode()
url = f"http://127.0.0.1:8080/queue/warmq/diffusion?fal_webhook={webhook}"
urllib.request.urlopen(url, job)
server.handle_request()
headers, body = Receiver.received
assert json.loads(body)["status"] == "OK", body
verify(headers, body)
try:
    verify(headers, body + b" ")
except BadSignatureError:
    pass
else:
    raise SystemExit("the signature of another body is accepted")
"#;

#[tokio::test]
async fn the_first_key_and_its_successors_are_made_as_printed() {
    let (sandbox, _worker) = Sandbox::start().await;
    for block in checked_as(Keys) {
        let listed = sandbox.shell(&block.text).await;
        assert!(
            listed.contains("root-") && listed.contains("shop-"),
            "{listed}"
        );
    }
    let answer = sandbox.system.get("/v1/keys").await;
    assert_eq!(answer.status, reqwest::StatusCode::UNAUTHORIZED);
    sandbox.system.cleanup().await;
}

#[tokio::test]
async fn configurations_have_no_mistakes() {
    for block in checked_as(Config) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("warmq.toml");
        std::fs::write(&file, &block.text).unwrap();
        let mut check = Command::new(binaries().join("warmq"));
        let check = check.args(["routes", "check"]).arg(&file);
        let output = check.output().await.unwrap();
        let mistakes = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {mistakes}", block.document);
    }
}

#[tokio::test]
async fn long_running_programs_accept_their_flags() {
    for block in checked_as(Flags) {
        let commands = block.text.replace("\\\n", " ");
        for command in commands.lines().filter(|line| !line.is_empty()) {
            let mut sh = Command::new("sh");
            let help = format!("{}/{command} --help", binaries().display());
            let output = sh.args(["-c", &help]).output().await.unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {errors}");
        }
    }
}

#[test]
fn the_readme_begins_with_the_two_commands() {
    let text = document("README.md");
    let first_screen: Vec<&str> = text.lines().take(20).collect();
    for command in ["make demo", "make test"] {
        let is_there = first_screen.iter().any(|line| line.starts_with(command));
        assert!(is_there, "'{command}' is not in the first screen");
    }
}
