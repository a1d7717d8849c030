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

/// Words of the real server that are answered in words of our own, with the same code and reason.
struct OwnWords {
    /// What its message holds.
    words: &'static str,
    /// A case that meets them.
    case: &'static str,
    /// Why nothing here relies on them.
    #[allow(dead_code, reason = "for readers")]
    why: &'static str,
}

const fn own(words: &'static str, case: &'static str, why: &'static str) -> OwnWords {
    OwnWords { words, case, why }
}

const OWN_WORDS: &[OwnWords] = &[
    own("cannot unmarshal", "a_wrong_type_is_refused", "how Go reads JSON"),
    own("invalid character", "a_bad_token_is_refused", "how Go reads JSON"),
    own(
        "unexpected end of JSON input",
        "a_body_that_is_no_object_is_refused",
        "how Go reads JSON",
    ),
    own(
        "the object provided is unrecognized",
        "a_body_that_is_no_object_is_refused",
        "it is told with the object",
    ),
    own(
        "cannot restore slice from",
        "a_strategic_patch_needs_the_key",
        "how Go reads a patch",
    ),
    own(
        "map[",
        "unknown_fields_are_dropped_or_refused_as_asked",
        "how Go prints a patch",
    ),
    own("parsing time", "a_lease_has_micro_times", "how Go reads a time"),
    own(
        "illegal base64",
        "secrets_have_keys_and_base64",
        "how Go reads base64",
    ),
    own(
        "StorageError",
        "an_update_of_another_uid_conflicts",
        "it tells how objects are stored",
    ),
];

/// Every line in which the answers to the same cases differ and should not, and every listed difference of these cases
/// that is none any more.
pub(crate) fn compare(memory: &[Outcome], real: &[Outcome]) -> Vec<String> {
    let mut out = Vec::new();
    let mut used = BTreeSet::new();
    for (memory, real) in memory.iter().zip(real) {
        let case = memory.case;
        out.extend(compare_one(case, &memory.transcript, &real.transcript, &mut used));
        out.extend(unmet_words(case, &real.transcript));
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

fn is_told_otherwise(path: &str, line: &str) -> bool {
    path.ends_with("/message") && OWN_WORDS.iter().any(|own| line.contains(own.words))
}

/// Words that a case should meet and does not.
fn unmet_words(case: &str, real: &Transcript) -> Vec<String> {
    let met = |words: &str| {
        real.iter()
            .any(|(_, lines)| lines.values().any(|line| line.contains(words)))
    };
    let unmet = OWN_WORDS.iter().filter(|own| own.case == case && !met(own.words));
    unmet
        .map(|own| {
            format!(
                "{case}: nobody says {:?} any more: take it out of the list",
                own.words
            )
        })
        .collect()
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
            if there.is_some_and(|line| is_told_otherwise(path, line)) && here.is_some() {
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
