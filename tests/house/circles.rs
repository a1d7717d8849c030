//! Which modules of a crate need each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Modules that need each other, and the reason why that stays so.
type Listed = (&'static [&'static str], &'static str);

/// Crates by the folder of their root file, and the circles in each.
const CRATES: [(&str, &[Listed]); 5] = [
    (
        "crds/src",
        &[
            (
                &["action", "parameters"],
                "both name the other's structs where their members are the same",
            ),
            (
                &["workflow", "workflow_status"],
                "the kind names its status, and that the step of the kind",
            ),
        ],
    ),
    (
        "actors/machines/src",
        &[(
            &[
                "actions",
                "classify",
                "job_view",
                "mapping",
                "parameters",
                "preflight",
                "problem",
                "render",
                "verify",
                "waiting",
            ],
            "they ask the action, and the action answers in their terms",
        )],
    ),
    (
        "actors/runtime/src",
        &[(
            &[
                "changes",
                "claims",
                "context",
                "effects",
                "step_actor",
                "supervisor",
                "workflow_actor",
            ],
            "an actor is told of others by its typed reference",
        )],
    ),
    (
        "src/embedded",
        &[(
            &["api", "controllers", "kubectl"],
            "they are one state: a write makes the controllers react, which write",
        )],
    ),
    (
        "src",
        &[(
            &["config", "http", "kube_api", "lease", "manifests", "telemetry"],
            "flags, manifests and what runs share names and numbers, such as that of the lease",
        )],
    ),
];

/// Crates that lie in the folder of another.
const APART: &str = "src/embedded";

type Graph = BTreeMap<String, BTreeSet<String>>;

/// The first modules of a crate, and which of them each names by `crate::`. What only tests need does not count.
fn graph(folder: &str) -> Graph {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut graph = Graph::new();
    let mut open: Vec<PathBuf> = vec![root.clone()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            if folder == APART || !path.ends_with(APART) {
                open.extend(
                    std::fs::read_dir(&path)
                        .expect("a folder")
                        .map(|entry| entry.expect("a file").path()),
                );
            }
            continue;
        }
        let inside = path.strip_prefix(&root).expect("inside");
        let mut parts = inside.components().map(|part| part.as_os_str().to_string_lossy());
        let first = parts.next().expect("a name");
        let module = first.trim_end_matches(".rs").to_owned();
        let is_test = inside.to_string_lossy().contains("tests");
        if !inside.to_string_lossy().ends_with(".rs")
            || ["lib", "main", "bin"].contains(&module.as_str())
            || is_test
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("text");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let names = code.split("crate::").skip(1).map(|rest| {
            rest.chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect::<String>()
        });
        graph.entry(module).or_default().extend(names);
    }
    let modules: BTreeSet<String> = graph.keys().cloned().collect();
    for (module, names) in &mut graph {
        names.retain(|name| modules.contains(name) && name != module);
    }
    graph
}

fn reachable(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(module) = open.pop() {
        for next in &graph[&module] {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

/// Modules each of which leads to all others of its circle.
fn circles(graph: &Graph) -> BTreeSet<BTreeSet<String>> {
    let reach: BTreeMap<&String, BTreeSet<String>> = graph
        .keys()
        .map(|module| (module, reachable(graph, module)))
        .collect();
    let circle = |module: &String| {
        let others = reach[module].iter().filter(|other| reach[other].contains(module));
        others.cloned().collect::<BTreeSet<String>>()
    };
    graph
        .keys()
        .map(circle)
        .filter(|circle| !circle.is_empty())
        .collect()
}

#[test]
fn modules_that_need_each_other_are_listed_with_the_reason() {
    for (folder, listed) in CRATES {
        let listed: BTreeSet<BTreeSet<String>> = listed
            .iter()
            .map(|(modules, reason)| {
                assert!(!reason.is_empty());
                modules.iter().map(|module| (*module).to_owned()).collect()
            })
            .collect();
        assert_eq!(circles(&graph(folder)), listed, "in {folder}");
    }
}

/// An image may leave it out (feature `rehearsal`).
#[test]
fn the_rehearsal_stands_above_the_controller() {
    let graph = graph("src");
    assert!(graph.contains_key("rehearsal"));
    let users: Vec<&String> = graph
        .iter()
        .filter(|(_, names)| names.contains("rehearsal"))
        .map(|(module, _)| module)
        .collect();
    assert_eq!(users, ["authoring", "cli", "live", "terminal"]);
}

#[test]
fn a_circle_is_found() {
    let uses = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let graph = Graph::from([
        ("a".to_owned(), uses(&["b"])),
        ("b".to_owned(), uses(&["c"])),
        ("c".to_owned(), uses(&["b"])),
    ]);
    assert_eq!(circles(&graph), BTreeSet::from([uses(&["b", "c"])]));
}
