//! What the program is made of besides its own code.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, NodeDep, Package};

/// What the images are built for.
const PLATFORM: &str = "x86_64-unknown-linux-musl";

/// Licences that ask for no more than their text.
const LICENCES: [&str; 8] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Zlib",
];

/// Crates that come in several versions, and who is behind.
const SEVERAL: [(&str, &str); 13] = [
    (
        "base64",
        "hyper-util and kube have the one, this program and others the newer",
    ),
    ("getrandom", "ring, ahash and tempfile have one each"),
    ("hashbrown", "dashmap, lru and indexmap have one each"),
    ("json-patch", "kube has the older"),
    ("jsonptr", "of the two of json-patch"),
    ("lock_api", "of the two of parking_lot"),
    ("num-bigint", "regorus has the newer, jsonschema the older"),
    ("parking_lot", "regorus has the newer, dashmap and cel the older"),
    ("parking_lot_core", "of the two of parking_lot"),
    ("syn", "derives of kube have the older"),
    ("synstructure", "macros of regorus's proofs have the older"),
    ("thiserror", "jsonpath-rust, of kube, has the older"),
    ("thiserror-impl", "of the two of thiserror"),
];

/// TLS is rustls alone: these would bring the system's library into a static program.
const BANNED: [&str; 3] = ["openssl", "openssl-sys", "native-tls"];

fn locked() -> Metadata {
    MetadataCommand::new()
        .features(CargoOpt::AllFeatures)
        .other_options(["--locked".to_owned(), format!("--filter-platform={PLATFORM}")])
        .exec()
        .expect("cargo metadata, as Cargo.lock has it")
}

/// Any of several, or all where it says so.
fn is_allowed(licence: &str) -> bool {
    let words = licence.replace(['(', ')', '/'], " ");
    let words: Vec<&str> = words.split_whitespace().collect();
    // `WITH X` takes something back of what a licence asks for.
    let with = |at: usize| at > 0 && words[at - 1] == "WITH";
    let mut names = words
        .iter()
        .enumerate()
        .filter(|(at, word)| !["OR", "AND", "WITH"].contains(word) && !with(*at))
        .map(|(_, word)| LICENCES.contains(word));
    if words.contains(&"AND") {
        names.all(|allowed| allowed)
    } else {
        names.any(|allowed| allowed)
    }
}

#[test]
fn every_dependency_has_a_licence_that_lets_us_ship_it() {
    let refused: Vec<String> = locked()
        .packages
        .iter()
        .filter(|package| !package.license.as_deref().is_some_and(is_allowed))
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.license))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn a_licence_is_read_as_it_is_written() {
    for allowed in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/Apache-2.0",
        "(MIT OR Apache-2.0) AND ISC",
    ] {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "LLVM-exception",
        "GPL-3.0 WITH MIT",
    ] {
        assert!(!is_allowed(refused), "{refused}");
    }
}

#[test]
fn every_dependency_comes_from_crates_io_and_none_is_banned() {
    for package in locked().packages {
        let from = package.source.as_ref().map(ToString::to_string);
        let ours = package.name.starts_with("kubernaut") || package.name == "embedded-cluster";
        let fits = match &from {
            Some(source) => source == "registry+https://github.com/rust-lang/crates.io-index",
            None => ours,
        };
        assert!(fits, "{} comes from {from:?}", package.name);
        assert!(
            !BANNED.contains(&package.name.as_str()),
            "{} is banned",
            package.name
        );
    }
}

#[test]
fn what_comes_in_several_versions_is_listed_with_the_reason() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in linked() {
        versions.entry(package.0).or_default().insert(package.1);
    }
    let several: Vec<&str> = versions
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, _)| name.as_str())
        .collect();
    let listed: Vec<&str> = SEVERAL
        .iter()
        .map(|(name, reason)| {
            assert!(!reason.is_empty());
            *name
        })
        .collect();
    assert_eq!(several, listed);
}

/// Name and version of what is built for the program: not what only tests need.
fn linked() -> BTreeSet<(String, String)> {
    let metadata = locked();
    let resolve = metadata.resolve.as_ref().expect("a graph");
    let root = metadata.root_package().expect("the program");
    let mut open = vec![&root.id];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let node = resolve.nodes.iter().find(|node| node.id == *id).expect("a node");
        let needed = |dependency: &&NodeDep| {
            let kinds = &dependency.dep_kinds;
            kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
        };
        open.extend(node.deps.iter().filter(needed).map(|dependency| &dependency.pkg));
    }
    let is_linked = |package: &&Package| seen.contains(&package.id);
    metadata
        .packages
        .iter()
        .filter(is_linked)
        .map(|package| (package.name.to_string(), package.version.to_string()))
        .collect()
}
