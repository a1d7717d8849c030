//! Which crate may use which.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// The house (docs/architecture.md): crds <- machines <- actors <- root. The embedded cluster knows nothing of kubernaut, and
/// the testbed stands alone; the benchmark sees engines from outside.
fn allowed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    BTreeMap::from([
        ("kubernaut-crds", BTreeSet::new()),
        ("kubernaut-machines", BTreeSet::from(["kubernaut-crds"])),
        (
            "kubernaut-actors",
            BTreeSet::from(["kubernaut-crds", "kubernaut-machines"]),
        ),
        (
            "kubernaut",
            BTreeSet::from([
                "kubernaut-crds",
                "kubernaut-machines",
                "kubernaut-actors",
                "embedded-cluster",
            ]),
        ),
        ("embedded-cluster", BTreeSet::new()),
        ("kubernaut-testbed", BTreeSet::new()),
        ("kubernaut-bench", BTreeSet::from(["kubernaut-testbed"])),
    ])
}

/// What would let a decision depend on the world.
const IMPURE: [&str; 10] = [
    "tokio",
    "ractor",
    "kube",
    "kube-client",
    "kube-runtime",
    "rand",
    "hyper",
    "reqwest",
    "dashmap",
    "tracing",
];

#[test]
fn each_crate_uses_only_what_the_house_allows() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata");
    let allowed = allowed();
    let members: BTreeSet<&str> = metadata
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(
        members,
        allowed.keys().copied().collect(),
        "a crate came or went: say here what it may use"
    );
    for package in &metadata.packages {
        let uses: BTreeSet<&str> = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development)
            .map(|dependency| dependency.name.as_str())
            .filter(|name| members.contains(name))
            .collect();
        assert_eq!(
            &uses,
            &allowed[package.name.as_str()],
            "{} uses other crates than the house allows",
            package.name
        );
    }
}

#[test]
fn machines_depend_on_nothing_that_touches_the_world() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata");
    let machines = metadata
        .packages
        .iter()
        .find(|package| package.name == "kubernaut-machines")
        .expect("machines");
    let impure: Vec<&str> = machines
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal)
        .map(|dependency| dependency.name.as_str())
        .filter(|name| IMPURE.contains(name))
        .collect();
    assert!(
        impure.is_empty(),
        "kubernaut-machines must stay pure, but depends on {impure:?}"
    );
}
