//! Reading manifests: every problem is reported with its file, line, object and field, and all of them at once.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kubernaut_machines::yaml::{self, Limits};
use serde_json::{Value, json};

use super::manifest::{Manifest, Problem};
use super::source_map::Document;
use super::text::{self, Part};

/// What files hold, and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Every object that can be read; a list counts as its items.
    pub(crate) manifests: Vec<Manifest>,
    /// All that is wrong.
    pub(crate) problems: Vec<Problem>,
}

/// Reads every object of the files.
pub(crate) fn read(files: &[PathBuf]) -> Read {
    let mut read = Read::default();
    for file in &with_folders(files, &mut read.problems) {
        match read_bytes(file) {
            Ok(bytes) => match text::decode(bytes) {
                Ok(text) => read.text(file, &text),
                Err(reason) => read.problems.push(Problem::of_file(file, None, reason)),
            },
            Err(error) => {
                let reason = format!("can't be read: {error}");
                read.problems.push(Problem::of_file(file, None, reason));
            }
        }
    }
    read
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

fn read_bytes(file: &Path) -> std::io::Result<Vec<u8>> {
    if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(file)
}

impl Read {
    fn text(&mut self, file: &Path, text: &str) {
        // Document by document, so that each has its line and a bad one does not hide the others.
        let (parts, bad) = text::documents(text);
        for line in bad {
            let reason = "nothing but a comment can stand behind ---: begin the document in the next line";
            self.problems.push(Problem::of_file(file, Some(line), reason));
        }
        for part in parts {
            if part.text.lines().all(is_empty) {
                continue;
            }
            let values = if part.text.trim_start().starts_with('{') {
                text::json_values(&part)
            } else {
                Vec::new()
            };
            if values.is_empty() {
                self.yaml(file, part);
            } else {
                for value in values {
                    self.json(file, value);
                }
            }
        }
    }

    fn yaml(&mut self, file: &Path, part: Part) {
        let documents = yaml::documents(&part.text, limits(&part.text)).map(|documents| {
            let lines: Vec<u64> = documents.iter().map(|document| document.line).collect();
            let first = documents.into_iter().next().map(yaml::Node::into_value);
            (first.unwrap_or_default(), lines.get(1).copied())
        });
        let (line, reason) = match documents {
            Ok((object, None)) => return self.object(file, part, object),
            // kubectl would leave out what follows, without a word.
            Ok((_, Some(line))) => (
                line,
                "a second document begins here: put --- before it".to_owned(),
            ),
            Err(error) => (error.line, format!("is not YAML: {}", error.reason)),
        };
        let line = part.first_line + line.saturating_sub(1);
        self.problems.push(Problem::of_file(file, Some(line), reason));
    }

    fn json(&mut self, file: &Path, part: Part) {
        let twice = embedded_cluster::fields_given_twice(part.text.as_bytes());
        if let Some(field) = twice.first() {
            // JSON is YAML, whose reader knows the line.
            let within =
                yaml::documents(&part.text, limits(&part.text)).map_or_else(|error| error.line, |_| 1);
            let line = Some(part.first_line + within - 1);
            let reason = format!("duplicate key: {field}");
            self.problems.push(Problem::of_file(file, line, reason));
            return;
        }
        let object = serde_json::from_str(&part.text).unwrap_or_default();
        self.object(file, part, object);
    }

    fn object(&mut self, file: &Path, part: Part, object: Value) {
        let document = Arc::new(Document::new(part.first_line, part.text));
        let mut objects = Vec::new();
        items_of(object, String::new(), &mut objects);
        for (within, object) in objects {
            // An empty document, or an empty place in a list.
            if object.is_null() {
                continue;
            }
            let manifest = Manifest {
                file: file.to_owned(),
                object,
                document: Arc::clone(&document),
                within,
                taken: false,
                is_name_made_up: false,
            };
            if !manifest.object.is_object() {
                let reason = "is not a Kubernetes object, but a bare value";
                let line = Some(manifest.line_of(""));
                self.problems.push(Problem::of_file(file, line, reason));
                continue;
            }
            let problems = manifest.check_head();
            if problems.is_empty() {
                self.manifests.push(manifest);
            } else {
                self.problems.extend(problems);
            }
        }
    }
}

/// What has items is a list of them, of whatever kind, and in any depth; with where each stands.
fn items_of(mut object: Value, within: String, objects: &mut Vec<(String, Value)>) {
    let items = if let Some(Value::Array(items)) = object.get_mut("items") {
        std::mem::take(items)
    } else {
        objects.push((within, object));
        return;
    };
    // A list that a server made says once what its items are.
    let kind = object["kind"].as_str().and_then(|kind| kind.strip_suffix("List"));
    let kind = kind.filter(|kind| !kind.is_empty());
    for (index, mut item) in items.into_iter().enumerate() {
        if let (Some(kind), Some(map)) = (kind, item.as_object_mut())
            && !map.contains_key("kind")
            && !map.contains_key("apiVersion")
        {
            map.insert("kind".to_owned(), json!(kind));
            map.insert("apiVersion".to_owned(), object["apiVersion"].clone());
        }
        let dot = if within.is_empty() { "" } else { "." };
        items_of(item, format!("{within}{dot}items[{index}]"), objects);
    }
}

/// What a file may hold: all that stands in it, and some of it more than once.
pub(super) fn limits(text: &str) -> Limits {
    Limits {
        values: usize::MAX,
        copies: 100_000 + text.len(),
    }
}

/// Blank, a comment, or a directive such as `%YAML 1.2`.
fn is_empty(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with(['#', '%'])
}
