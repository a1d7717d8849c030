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

const DIFFERENCES: &[Difference] = &[];

/// Messages of the real server that hold these words are answered in words of our own, with the same code and reason.
const OWN_WORDS: &[(&str, &str)] = &[
    ("cannot unmarshal", "how Go reads JSON"),
    ("json: ", "how Go reads JSON"),
    ("invalid character", "how Go reads JSON"),
    ("unexpected end of JSON input", "how Go reads JSON"),
    ("cannot restore slice from", "how Go reads JSON"),
    ("cannot restore map from", "how Go reads JSON"),
    ("yaml: ", "how Go reads YAML"),
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
