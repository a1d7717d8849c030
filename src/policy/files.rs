//! The files of a directory of policies, read as one version.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::PolicyError;

/// Bytes of all files together: a ConfigMap has at most 1 MiB.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Files of a directory.
const FILES_MAX: usize = 500;
/// The link through which a kubelet shows the present version of a ConfigMap: it is replaced in one step.
const PRESENT: &str = "..data";

/// What the policies of a directory are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PolicyFiles {
    /// Name and text of each file of Rego, by name.
    pub(super) rego: Vec<(String, String)>,
    /// Name and text of each file of data, by name.
    pub(super) data: Vec<(String, String)>,
}

impl PolicyFiles {
    /// Reads a directory. Of one that is a mounted ConfigMap all files are of one version, also while it is replaced.
    pub(super) fn read(directory: &Path) -> Result<Self, PolicyError> {
        let at = present(directory);
        let mut files = Self::default();
        let mut left = BYTES_MAX;
        for name in names(&at, directory)? {
            let into = match kind_of(&name) {
                FileKind::Rego => &mut files.rego,
                FileKind::Data => &mut files.data,
                FileKind::Other => continue,
            };
            let path = at.join(&name);
            let mut text = String::new();
            let read = fs::File::open(&path).and_then(|file| file.take(left + 1).read_to_string(&mut text));
            let read = read.map_err(|source| unreadable(&path, source))?;
            left = left
                .checked_sub(u64::try_from(read).unwrap_or(u64::MAX))
                .ok_or_else(|| too_much(directory, &format!("{BYTES_MAX} bytes")))?;
            into.push((name, text));
        }
        Ok(files)
    }
}

/// Where the files of one version are.
fn present(directory: &Path) -> PathBuf {
    let link = directory.join(PRESENT);
    fs::canonicalize(&link).unwrap_or_else(|_| directory.to_owned())
}

enum FileKind {
    Rego,
    Data,
    Other,
}

fn kind_of(name: &str) -> FileKind {
    // Recorded inputs and tests of Open Policy Agent are no part of the policy.
    let recorded = [".input.json", ".expected.json", "_test.rego"];
    if recorded.iter().any(|end| name.ends_with(end)) {
        return FileKind::Other;
    }
    match Path::new(name).extension().and_then(|end| end.to_str()) {
        Some("rego") => FileKind::Rego,
        Some("json" | "yaml" | "yml") => FileKind::Data,
        Some(_) | None => FileKind::Other,
    }
}

/// Names of the files of a directory, in order; of links, where they point to files. Hidden ones are left out, and so are
/// names that are no text.
pub(super) fn names(at: &Path, directory: &Path) -> Result<Vec<String>, PolicyError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(at).map_err(|source| unreadable(at, source))? {
        let entry = entry.map_err(|source| unreadable(at, source))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') || !at.join(&name).is_file() {
            continue;
        }
        names.push(name);
        if names.len() > FILES_MAX {
            return Err(too_much(directory, &format!("{FILES_MAX} files")));
        }
    }
    names.sort();
    Ok(names)
}

pub(super) fn unreadable(path: &Path, source: io::Error) -> PolicyError {
    PolicyError::Unreadable {
        path: path.display().to_string(),
        source,
    }
}

fn too_much(directory: &Path, max: &str) -> PolicyError {
    PolicyError::TooMuch {
        path: directory.display().to_string(),
        max: max.to_owned(),
    }
}
