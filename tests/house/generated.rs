//! Files that are made from the code are what the code makes.

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
        ("crds/yaml/approvals.yaml", kubernaut_crds::approval_crd()),
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

#[test]
fn the_committed_chart_is_that_of_the_code() {
    let files = kubernaut::manifests::chart::files().expect("a chart");
    for file in &files {
        let path = format!("deploy/charts/kubernaut/{}", file.path);
        assert!(
            committed(&path) == file.text,
            "{path} is not what the code says: run ./dev fix"
        );
    }
    // Nor is there a template that neither the code nor a person wrote.
    let written = ["templates/_helpers.tpl", "templates/NOTES.txt"];
    let templates =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/charts/kubernaut/templates"));
    for entry in templates.expect("templates") {
        let path = format!(
            "templates/{}",
            entry.expect("a file").file_name().to_string_lossy()
        );
        assert!(
            files.iter().any(|file| file.path == path) || written.contains(&path.as_str()),
            "{path} is made by nothing"
        );
    }
}

#[test]
fn the_committed_schema_is_that_of_the_kinds_and_each_sample_names_it() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kubernaut"))
        .arg("schema")
        .output()
        .expect("the program");
    assert!(
        committed("deploy/schema/kubernaut.json").as_bytes() == output.stdout,
        "deploy/schema/kubernaut.json is not what the code says: run ./dev fix"
    );
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples");
    for sample in std::fs::read_dir(samples).expect("samples") {
        let path = sample.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("a text");
        let line = "# yaml-language-server: $schema=../schema/kubernaut.json\n";
        assert!(text.starts_with(line), "{}", path.display());
    }
}

#[test]
fn both_ways_to_make_the_image_make_the_same() {
    let dockerfile = committed("Dockerfile");
    let packed = committed("tests/cluster/image");
    let toolchain = committed("rust-toolchain.toml");
    let version = toolchain.split('"').nth(1).expect("a version");
    for line in [
        format!("FROM rust:{version}-slim AS build"),
        format!("ENV RUSTUP_TOOLCHAIN={version}"),
        "RUN ./dev static --release --controller /kubernaut".to_owned(),
    ] {
        assert!(
            dockerfile.lines().any(|found| found == line),
            "Dockerfile: no {line}"
        );
    }
    for (said, packs) in [
        (
            "ENTRYPOINT [\"/bin/kubernaut\"]",
            r#""Entrypoint": ["/bin/$(basename "$program")"]"#,
        ),
        ("ENV PATH=/bin", r#""Env": ["PATH=/bin"]"#),
        ("USER 65532:65532", r#""User": "65532:65532""#),
    ] {
        assert!(
            dockerfile.lines().any(|found| found == said),
            "Dockerfile: no {said}"
        );
        assert!(packed.contains(packs), "tests/cluster/image: no {packs}");
    }
}

#[test]
fn the_image_of_the_base_is_the_one_that_is_made() {
    let image = kubernaut::manifests::IMAGE;
    assert!(committed("deploy/base/controller.yaml").contains(&format!("image: {image}\n")));
    assert!(
        committed("Dockerfile").contains(&format!("/{image} .")),
        "its first lines name the image"
    );
}
