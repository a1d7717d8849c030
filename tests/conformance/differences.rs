//! Where the embedded cluster may answer otherwise, and why.

use std::collections::BTreeSet;

use super::Outcome;
use super::transcript::Transcript;

/// A difference that is meant.
struct Difference {
    case: &'static str,
    /// As the transcript has it.
    request: &'static str,
    /// The lines whose paths begin so.
    lines: &'static str,
    /// Why nothing here relies on it.
    #[allow(dead_code, reason = "for readers")]
    why: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        case: "one_of_and_any_of_are_told",
        request: "POST plan",
        lines: "/body/",
        why: "our schemas have no branches; the refusal is the same, its causes are fewer",
    },
    Difference {
        case: "a_job_makes_one_pod_with_its_labels",
        request: "finalizers",
        lines: "",
        why: "a real Job counts its pods by a finalizer; here they are counted as they go",
    },
    Difference {
        case: "a_stateful_set_and_a_daemon_set_have_what_the_server_sets",
        request: "POST ds",
        lines: "/body/metadata/annotations",
        why: "nothing reads the annotation of a former API",
    },
    Difference {
        case: "a_pod_has_what_the_server_sets",
        request: "POST pod",
        lines: "/body/spec/containers/0/resources/requests/cpu",
        why: "a quantity stays as it was written",
    },
];

/// Messages of the real server that hold these words are answered in words of our own, with the same code and reason.
const OWN_WORDS: &[(&str, &str)] = &[
    ("cannot unmarshal", "how Go reads JSON"),
    ("json: ", "how Go reads JSON"),
    ("invalid character", "how Go reads JSON"),
    ("unexpected end of JSON input", "how Go reads JSON"),
    ("cannot restore slice from", "how Go reads JSON"),
    ("cannot restore map from", "how Go reads JSON"),
    ("yaml: ", "how Go reads YAML"),
    ("map[", "how Go prints a patch"),
    ("cannot restore struct from", "how Go reads a patch"),
    ("parsing time", "how Go reads a time"),
    ("illegal base64", "how Go reads base64"),
    (
        "the object provided is unrecognized",
        "it is told with the object",
    ),
    ("StorageError", "it tells how objects are stored"),
    ("expected string, got &value", "how Go prints a value"),
];

/// Every line in which the answers to the same cases differ and should not, and every listed difference of these cases
/// that is none any more.
pub(crate) fn compare(memory: &[Outcome], real: &[Outcome]) -> Vec<String> {
    let mut out = Vec::new();
    let mut used = BTreeSet::new();
    for (memory, real) in memory.iter().zip(real) {
        let case = memory.case;
        out.extend(compare_one(case, &memory.transcript, &real.transcript, &mut used));
        let listed = DIFFERENCES.iter().enumerate().filter(|(_, d)| d.case == case);
        for (_, gone) in listed.filter(|(number, _)| !used.contains(number)) {
            out.push(format!(
                "{case}: {}: there is no difference any more in {:?}: take it out of the list",
                gone.request, gone.lines
            ));
        }
    }
    out
}

fn compare_one(
    case: &str,
    memory: &Transcript,
    real: &Transcript,
    used: &mut BTreeSet<usize>,
) -> Vec<String> {
    let mut out = Vec::new();
    if memory.len() != real.len() {
        out.push(format!(
            "{case}: {} requests, really {}",
            memory.len(),
            real.len()
        ));
    }
    for ((request, memory), (asked, real)) in memory.iter().zip(real) {
        if request != asked {
            out.push(format!("{case}: asked {request}, really {asked}"));
            continue;
        }
        let paths: BTreeSet<&String> = memory.keys().chain(real.keys()).collect();
        for path in paths {
            let (here, there) = (memory.get(path), real.get(path));
            if here == there {
                continue;
            }
            let known = DIFFERENCES
                .iter()
                .position(|d| d.case == case && d.request == request && path.starts_with(d.lines));
            if let Some(known) = known {
                used.insert(known);
                continue;
            }
            let told = there.is_some_and(|line| OWN_WORDS.iter().any(|(words, _)| line.contains(words)));
            if told && path.ends_with("/message") && here.is_some() {
                continue;
            }
            let shown = |line: Option<&String>| line.map_or("nothing", String::as_str).to_owned();
            out.push(format!(
                "{case}: {request}\n    {path}\n      embedded: {}\n      real:     {}",
                shown(here),
                shown(there)
            ));
        }
    }
    out
}
