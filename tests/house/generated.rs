use std::path::Path;

use kubernaut::manifests::Installation;

fn committed(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_committed_crds_are_those_of_the_types() {
    for (path, crd) in [
        (
            "crds/yaml/workflowexecutions.yaml",
            kubernaut_crds::workflow_crd(),
        ),
        (
            "crds/yaml/kubernetesexecutions.yaml",
            kubernaut_crds::execution_crd(),
        ),
    ] {
        let made = kubernaut_crds::manifest_yaml(&crd).expect("a manifest");
        assert!(
            committed(path) == made,
            "{path} is not what the types say: run ./dev fix"
        );
    }
}

#[test]
fn the_committed_manifests_are_those_of_the_code() {
    for file in kubernaut::manifests::files(&Installation::default()).expect("manifests") {
        let path = format!("deploy/base/{}", file.name);
        let made = kubernaut::manifests::text(&file).expect("text");
        assert!(
            committed(&path) == made,
            "{path} is not what the code says: run ./dev fix"
        );
    }
}

#[test]
fn every_made_manifest_is_part_of_the_base() {
    let base = committed("deploy/base/kustomization.yaml");
    for file in kubernaut::manifests::files(&Installation::default()).expect("manifests") {
        assert!(
            base.contains(&format!("- {}\n", file.name)),
            "{} is missing in kustomization.yaml",
            file.name
        );
    }
}
