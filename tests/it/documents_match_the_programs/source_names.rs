//! Files and items that comments and documents name exist: `lanes.rs`, `Flows::take_due`,
//! `api::auth`.

use std::collections::{BTreeMap, BTreeSet};

use super::{documents, root};
use crate::plain_english::prose::{FOLDERS, files, prose};

/// The sources, indexed by what a name can refer to.
struct Sources {
    paths: Vec<String>,
    /// Words of the code of each module: a file, or the `mod.rs` of a folder.
    modules: BTreeMap<String, BTreeSet<String>>,
    /// Words of the code of the files that define or implement a type.
    types: BTreeMap<String, BTreeSet<String>>,
}

impl Sources {
    fn read(paths: &[String]) -> Self {
        let mut sources = Self {
            paths: paths.to_vec(),
            modules: BTreeMap::new(),
            types: BTreeMap::new(),
        };
        for path in paths.iter().filter(|path| path.ends_with(".rs")) {
            let code = code(path);
            let words: BTreeSet<String> = words(&code).map(str::to_owned).collect();
            let module = sources.modules.entry(module(path)).or_default();
            module.extend(words.iter().cloned());
            for name in types(&code) {
                let known = sources.types.entry(name).or_default();
                known.extend(words.iter().cloned());
            }
        }
        sources
    }

    /// Returns whether a file of this name, or with this end of its path, exists.
    fn has_file(&self, name: &str) -> bool {
        let end = format!("/{}", name.trim_start_matches(['.', '/']));
        self.paths
            .iter()
            .any(|path| format!("/{path}").ends_with(&end))
    }

    /// Returns whether `outer` contains `inner`; true if `outer` is not of this repository.
    fn has_item(&self, outer: &str, inner: &str) -> bool {
        let found = [self.types.get(outer), self.modules.get(outer)];
        let mut found = found.into_iter().flatten().peekable();
        found.peek().is_none() || found.any(|words| words.contains(inner))
    }
}

/// Returns the code of a file, without its comments.
fn code(path: &str) -> String {
    let source = std::fs::read_to_string(root().join(path)).unwrap();
    let lines = source.lines().map(|line| match line.split_once("//") {
        Some((code, _)) => code,
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn module(path: &str) -> String {
    let mut parts = path.trim_end_matches(".rs").rsplit('/');
    match parts.next().unwrap_or_default() {
        "mod" => parts.next().unwrap_or_default().to_owned(),
        name => name.to_owned(),
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| !word.is_empty())
}

/// Returns the types that code defines or implements.
fn types(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in code.lines().map(str::trim_start) {
        let words: Vec<&str> = words(line).collect();
        let kinds = ["struct", "enum", "trait", "type"];
        let defined = words.windows(2).filter(|pair| kinds.contains(&pair[0]));
        found.extend(defined.map(|pair| pair[1].to_owned()));
        if line.starts_with("impl") {
            let begins_upper = |word: &&&str| word.starts_with(|c: char| c.is_uppercase());
            found.extend(
                words
                    .iter()
                    .filter(begins_upper)
                    .map(|word| (*word).to_owned()),
            );
        }
    }
    found
}

/// Returns the bare names and paths of Rust and Lua files in a text.
fn file_names(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_/.-".contains(c);
    let names = text.split(move |c: char| !is_part(c));
    let names = names.map(|name| name.trim_end_matches('.'));
    names.filter(|name| {
        let stem = [".rs", ".lua"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        stem.is_some_and(|stem| stem.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    })
}

/// Returns the paths of items in backticks: `Flows::take_due`, not `crate::flow` or `std::fs`.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let paths = quoted.map(|path| path.split(['(', '!', '<']).next().unwrap_or_default());
    paths.filter(|path| {
        let is_part = |c: char| c.is_alphanumeric() || "_:".contains(c);
        path.contains("::") && path.chars().all(is_part)
    })
}

/// Returns what a text names and the repository lacks.
fn missing<'t>(sources: &Sources, text: &'t str) -> Vec<&'t str> {
    let files = file_names(text).filter(|name| !sources.has_file(name));
    let items = items(text).filter(|path| {
        let parts: Vec<&str> = path.split("::").collect();
        let mut pairs = parts.windows(2);
        !pairs.all(|pair| sources.has_item(pair[0], pair[1]))
    });
    files.chain(items).collect()
}

/// Returns the comments of all sources and the lines of all documents, each with its path.
fn texts(paths: &[String]) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for path in paths {
        let source = std::fs::read_to_string(root().join(path)).unwrap();
        let comments = prose(path, &source).into_iter();
        let comments = comments.filter(|prose| prose.is_comment);
        texts.extend(comments.map(|prose| (path.clone(), prose.text)));
    }
    for (path, text) in documents() {
        let outside = text.split("\n```").step_by(2);
        let lines = outside.flat_map(str::lines);
        texts.extend(lines.map(|line| (path.clone(), line.to_owned())));
    }
    texts
}

#[test]
fn files_and_items_named_in_comments_and_documents_exist() {
    let paths: Vec<String> = FOLDERS
        .into_iter()
        .flat_map(files)
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    let sources = Sources::read(&paths);
    let mut found = Vec::new();
    for (path, text) in texts(&paths) {
        let names = missing(&sources, &text).into_iter();
        found.extend(names.map(|name| format!("{path}: {name}")));
    }
    assert!(
        found.is_empty(),
        "these do not exist:\n{}",
        found.join("\n")
    );
}

#[test]
fn a_missing_file_method_or_module_is_found_and_foreign_ones_are_not() {
    let paths = ["common/store/src/flows.rs", "router/src/api/mod.rs"].map(str::to_owned);
    let sources = Sources::read(&paths);
    let text = "See flows.rs, none.rs and .rs; `Flows::take_due()`, `Flows::none`, `api::auth`, \
                `api::none`, `tokio::none`.";
    assert_eq!(
        missing(&sources, text),
        ["none.rs", "Flows::none", "api::none"]
    );
}
