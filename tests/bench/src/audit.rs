//! What the API server was asked for, from its audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use crate::shapes::Steps;

/// Requests of an engine in one run.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// By verb and resource, such as `patch kubernetesexecutions/status`.
    pub(crate) counts: BTreeMap<String, u64>,
    /// Requests of all users together, this engine among them, by verb and resource: what it makes others write.
    pub(crate) everybody: BTreeMap<String, u64>,
    /// Milliseconds from the end of the last pod that a step waits for to its own pod.
    pub(crate) pod_to_pod: Vec<f64>,
    /// Steps that have had a pod.
    pub(crate) ran: usize,
    /// Steps that have had more than one.
    pub(crate) repeated: u64,
    /// When the first write was answered that is no renewal of a lease, and no Event.
    pub(crate) first_write: Option<Timestamp>,
    /// Answers of the server's own faults, and those that asked to slow down.
    pub(crate) refused: u64,
}

/// A pod: its name, and when it was first and last heard of.
type Life = (String, Timestamp, Timestamp);

const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

impl Requests {
    /// Own writes, without Events and reviews.
    pub(crate) fn writes(&self) -> u64 {
        self.sum(|verb, resource| WRITES.contains(&verb) && !is_event(resource) && !is_review(resource))
    }

    pub(crate) fn events(&self) -> u64 {
        self.sum(|verb, resource| WRITES.contains(&verb) && is_event(resource))
    }

    pub(crate) fn reviews(&self) -> u64 {
        self.sum(|_, resource| is_review(resource))
    }

    pub(crate) fn reads(&self) -> u64 {
        self.sum(|verb, _| ["get", "list"].contains(&verb))
    }

    fn sum(&self, counts: impl Fn(&str, &str) -> bool) -> u64 {
        let has = |what: &String| {
            let (verb, resource) = what.split_once(' ').unwrap_or((what, ""));
            counts(verb, resource)
        };
        self.counts
            .iter()
            .filter(|(what, _)| has(what))
            .map(|(_, count)| count)
            .sum()
    }
}

fn is_event(resource: &str) -> bool {
    resource == "events"
}

fn is_review(resource: &str) -> bool {
    resource.ends_with("accessreviews")
}

/// What a line tells, in the few words that are used.
struct Line {
    user: String,
    verb: String,
    resource: String,
    name: String,
    code: u64,
    at: Timestamp,
}

fn line(text: &str) -> Option<Line> {
    let value: Value = serde_json::from_str(text).ok()?;
    let word = |pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let resource = match word("/objectRef/subresource").as_str() {
        "" => word("/objectRef/resource"),
        part => format!("{}/{part}", word("/objectRef/resource")),
    };
    Some(Line {
        user: word("/user/username"),
        verb: word("/verb"),
        resource,
        name: word("/objectRef/name"),
        code: value.pointer("/responseStatus/code")?.as_u64()?,
        at: word("/stageTimestamp").parse().ok()?,
    })
}

/// The workflow and the step of a pod's name: `w12-step-3-...` is the third step of the thirteenth workflow.
fn step_of(pod: &str) -> Option<(usize, usize)> {
    let (workflow, rest) = pod.strip_prefix('w')?.split_once("-step-")?;
    let step = rest.split('-').next()?.parse::<usize>().ok()?;
    Some((workflow.parse().ok()?, step.checked_sub(1)?))
}

/// Reads what was added to the log since it was `from` bytes long: requests of `user`, and the lives of pods.
///
/// # Errors
/// The log can't be read.
pub(crate) fn read(log: &Path, from: u64, user: &str, steps: &Steps) -> std::io::Result<Requests> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    let mut requests = Requests::default();
    let mut pods: BTreeMap<(usize, usize), Vec<Life>> = BTreeMap::new();
    for text in BufReader::new(file).lines() {
        let Some(line) = line(&text?) else { continue };
        let what = format!("{} {}", line.verb, line.resource);
        if line.verb != "watch" {
            *requests.everybody.entry(what.clone()).or_default() += 1;
        }
        if line.user == user && line.verb != "watch" {
            let is_other = line.resource == "leases" || is_event(&line.resource) || is_review(&line.resource);
            if WRITES.contains(&line.verb.as_str()) && !is_other {
                requests.first_write.get_or_insert(line.at);
            }
            *requests.counts.entry(what).or_default() += 1;
            requests.refused += u64::from(line.code >= 500 || line.code == 429);
        }
        let is_life = matches!(line.resource.as_str(), "pods/binding" | "pods/status") && line.code < 300;
        if let Some(step) = step_of(&line.name).filter(|_| is_life) {
            let pods = pods.entry(step).or_default();
            match pods.iter_mut().find(|(name, ..)| *name == line.name) {
                Some((_, _, last)) => *last = (*last).max(line.at),
                None => pods.push((line.name, line.at, line.at)),
            }
        }
    }
    requests.ran = pods.len();
    for ((workflow, step), lives) in &pods {
        requests.repeated += u64::from(lives.len() > 1);
        let Some(begun) = lives.first().map(|(_, first, _)| *first) else {
            continue;
        };
        let before = steps.get(*step).into_iter().flatten();
        let ends =
            before.filter_map(|other| pods.get(&(*workflow, *other))?.last().map(|(_, _, last)| *last));
        if let Some(end) = ends.max() {
            requests
                .pod_to_pod
                .push(begun.duration_since(end).as_secs_f64() * 1000.0);
        }
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_and_pods_are_timed() {
        let entry = |user: &str, verb: &str, resource: &str, part: &str, name: &str, at: &str| {
            serde_json::json!({"user": {"username": user}, "verb": verb, "stageTimestamp": at, "responseStatus": {"code": 201},
                "objectRef": {"resource": resource, "subresource": part, "name": name}})
            .to_string()
        };
        let lines = [
            entry("us", "create", "jobs", "", "w0-step-1", "2026-01-01T00:00:00Z"),
            entry("us", "create", "events", "", "e", "2026-01-01T00:00:00Z"),
            entry(
                "us",
                "create",
                "subjectaccessreviews",
                "",
                "",
                "2026-01-01T00:00:00Z",
            ),
            entry("us", "get", "configmaps", "", "m", "2026-01-01T00:00:00Z"),
            entry(
                "node",
                "create",
                "pods",
                "binding",
                "w0-step-1-a",
                "2026-01-01T00:00:01Z",
            ),
            entry(
                "node",
                "patch",
                "pods",
                "status",
                "w0-step-1-a",
                "2026-01-01T00:00:02Z",
            ),
            entry(
                "node",
                "create",
                "pods",
                "binding",
                "w0-step-2-b",
                "2026-01-01T00:00:02.25Z",
            ),
            "half a li".to_owned(),
        ];
        let log = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(log.path(), lines.join("\n")).expect("written");
        let requests = read(log.path(), 0, "us", &vec![vec![], vec![0]]).expect("read");
        let sums = [
            requests.writes(),
            requests.events(),
            requests.reviews(),
            requests.reads(),
        ];
        assert_eq!(sums, [1, 1, 1, 1]);
        assert_eq!(requests.pod_to_pod, [250.0]);
        assert_eq!(requests.first_write, "2026-01-01T00:00:00Z".parse().ok());
        assert_eq!((requests.ran, requests.repeated), (2, 0));
    }
}
