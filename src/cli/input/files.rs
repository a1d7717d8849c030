//! Reading manifests: every problem is reported with its file, line, object and field, and all of them at once.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::manifest::{Manifest, Problem};
use super::places::Document;
use super::wording;

/// Reads every object of the files; a List counts as its items. All problems are found before any is returned.
pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<Manifest>, Vec<Problem>> {
    let mut manifests = Vec::new();
    let mut problems = Vec::new();
    for file in &with_folders(files, &mut problems) {
        match read_text(file) {
            Ok(text) => read_documents(file, &text, &mut manifests, &mut problems),
            Err(error) => problems.push(Problem::of_file(file, None, format!("can't be read: {error}"))),
        }
    }
    if problems.is_empty() {
        Ok(manifests)
    } else {
        Err(problems)
    }
}

/// A folder stands for the manifests in it, as for kubectl.
fn with_folders(files: &[PathBuf], problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for file in files {
        if !file.is_dir() {
            all.push(file.clone());
            continue;
        }
        let is_manifest = |path: &PathBuf| {
            let ending = path.extension().and_then(std::ffi::OsStr::to_str);
            ending.is_some_and(|ending| ["yaml", "yml", "json"].contains(&ending)) && path.is_file()
        };
        let listed = std::fs::read_dir(file).and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<Vec<PathBuf>>>()
        });
        match listed {
            Ok(paths) => {
                let mut found: Vec<PathBuf> = paths.into_iter().filter(is_manifest).collect();
                if found.is_empty() {
                    let reason = "is a folder without manifests (*.yaml, *.yml, *.json)";
                    problems.push(Problem::of_file(file, None, reason));
                }
                found.sort();
                all.extend(found);
            }
            Err(error) => problems.push(Problem::of_file(file, None, format!("can't be read: {error}"))),
        }
    }
    all
}

fn read_text(file: &Path) -> std::io::Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

fn read_documents(file: &Path, text: &str, manifests: &mut Vec<Manifest>, problems: &mut Vec<Problem>) {
    // Document by document, so that each has its line and a bad one does not hide the others.
    for (first_line, document) in documents(text) {
        if document.lines().all(is_empty) {
            continue;
        }
        let object: Value = match serde_saphyr::from_str(&document) {
            Ok(Value::Null) => continue,
            Ok(object) => object,
            Err(error) => {
                let line = error
                    .location()
                    .map_or(first_line, |place| first_line + place.line().saturating_sub(1));
                let reason = format!("is not YAML: {}", wording::of_yaml(&error.to_string()));
                problems.push(Problem::of_file(file, Some(line), reason));
                continue;
            }
        };
        let document = Arc::new(Document::new(first_line, document));
        let items: Vec<(String, Value)> = match object.get("items").and_then(Value::as_array) {
            Some(items) if object["kind"] == "List" => (0..)
                .zip(items)
                .map(|(index, item): (usize, _)| (format!("items[{index}]"), item.clone()))
                .collect(),
            _ => vec![(String::new(), object)],
        };
        for (within, object) in items {
            let manifest = Manifest {
                file: file.to_owned(),
                object,
                document: Arc::clone(&document),
                within,
                taken: false,
            };
            if !manifest.object.is_object() {
                let reason = "is not a Kubernetes object, but a bare value";
                problems.push(Problem::of_file(file, Some(manifest.line_of("")), reason));
                continue;
            }
            problems.extend(manifest.check_head());
            manifests.push(manifest);
        }
    }
}

/// Blank, a comment, or a directive such as `%YAML 1.2`.
fn is_empty(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with(['#', '%'])
}

/// The documents of a file with the number of their first line.
fn documents(text: &str) -> Vec<(u64, String)> {
    let mut documents = vec![(1, String::new())];
    for (number, line) in (1u64..).zip(text.split_inclusive('\n')) {
        let bare = line.trim_end();
        if bare == "---" || bare.starts_with("--- ") {
            documents.push((number + 1, String::new()));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
        }
    }
    documents
}
