//! Recorded inputs beside policies, with what is expected of each.

use std::fs;
use std::path::{Path, PathBuf};

use kubernaut_machines::policy::Verdict;
use serde::Deserialize;
use serde_json::Value;

use super::PolicyError;
use super::files::{names, unreadable};

const INPUT: &str = ".input.json";
const EXPECTED: &str = ".expected.json";

/// A recorded input with what is expected of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The name of its files without their ends.
    pub name: String,
    /// What the policy is asked about.
    pub input: Value,
    /// What it has to answer.
    pub expected: Expectation,
}

/// What is expected of a verdict; what is left out is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Whether the execution may run.
    pub allow: Option<bool>,
    /// All violations, in any order.
    pub violations: Option<Vec<String>>,
    /// All warnings, in any order.
    pub warnings: Option<Vec<String>>,
    /// Whether a person has to approve first.
    pub require_approval: Option<bool>,
    /// Whether a dry run has to come first.
    pub require_dry_run: Option<bool>,
}

impl Expectation {
    /// What of a verdict is not as expected, each in a sentence.
    pub fn misses(&self, verdict: &Verdict) -> Vec<String> {
        let flag = |name: &str, expected: Option<bool>, found: bool| {
            let expected = expected.filter(|expected| *expected != found)?;
            Some(format!("{name} is {found}, expected {expected}"))
        };
        let set = |name: &str, expected: &Option<Vec<String>>, found: &[String]| {
            let sorted = |texts: &[String]| {
                let mut texts = texts.to_vec();
                texts.sort();
                texts
            };
            let expected = expected
                .as_ref()
                .filter(|expected| sorted(expected) != sorted(found))?;
            Some(format!("{name} are {found:?}, expected {expected:?}"))
        };
        let misses = [
            flag("allow", self.allow, verdict.is_allowed()),
            set("violations", &self.violations, &verdict.violations),
            set("warnings", &self.warnings, &verdict.warnings),
            flag(
                "require_approval",
                self.require_approval,
                verdict.requires_approval,
            ),
            flag("require_dry_run", self.require_dry_run, verdict.requires_dry_run),
        ];
        let mut misses: Vec<String> = misses.into_iter().flatten().collect();
        if let (false, Some(why)) = (misses.is_empty(), &verdict.denied) {
            misses.push(why.clone());
        }
        misses
    }
}

/// The cases of a directory: NAME.input.json with NAME.expected.json, by name.
///
/// # Errors
/// When a file can't be read, is no JSON or expects what no policy answers, and when one stands without the other.
pub fn cases(directory: &Path) -> Result<Vec<Case>, PolicyError> {
    let all = names(directory, directory)?;
    for name in all.iter().filter_map(|name| name.strip_suffix(EXPECTED)) {
        let input = format!("{name}{INPUT}");
        if !all.contains(&input) {
            return Err(wrong(
                &format!("{name}{EXPECTED}"),
                format!("there is no {input} beside it"),
            ));
        }
    }
    let inputs = all.iter().filter_map(|name| name.strip_suffix(INPUT));
    inputs.map(|name| case(directory, name)).collect()
}

fn case(directory: &Path, name: &str) -> Result<Case, PolicyError> {
    let (input, expected) = (format!("{name}{INPUT}"), format!("{name}{EXPECTED}"));
    if !directory.join(&expected).is_file() {
        return Err(wrong(
            &input,
            format!("there is no {expected} beside it, to say what is expected, such as {{\"allow\": true}}"),
        ));
    }
    let expectation: Value = parsed(&directory.join(&expected))?;
    let expectation =
        serde_json::from_value(expectation).map_err(|error| wrong(&expected, error.to_string()))?;
    if expectation == Expectation::default() {
        return Err(wrong(
            &expected,
            "expects nothing: name allow, at least".to_owned(),
        ));
    }
    Ok(Case {
        name: name.to_owned(),
        input: parsed(&directory.join(input))?,
        expected: expectation,
    })
}

/// An input of a file.
///
/// # Errors
/// When the file can't be read, or is no JSON.
pub fn recorded_input(path: &Path) -> Result<Value, PolicyError> {
    parsed(path)
}

/// JSON of a file.
fn parsed(path: &Path) -> Result<Value, PolicyError> {
    let text = fs::read_to_string(path).map_err(|source| unreadable(path, source))?;
    let name = PathBuf::from(path.file_name().unwrap_or_default());
    serde_json::from_str(&text).map_err(|error| wrong(&name.display().to_string(), error.to_string()))
}

fn wrong(file: &str, problem: String) -> PolicyError {
    PolicyError::Data {
        file: file.to_owned(),
        problem,
    }
}
