//! What the guide says that commands print without a cluster, they print.

use std::path::{Path, PathBuf};

use crate::transcript::Shell;

fn shell() -> Shell {
    let program = Path::new(env!("CARGO_BIN_EXE_kubernaut"));
    Shell {
        directory: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        path: vec![program.parent().expect("a directory").to_owned()],
        environment: vec![("KUBECONFIG".to_owned(), "/nonexistent".to_owned())],
    }
}

#[test]
fn what_the_guide_shows_without_a_cluster_is_what_is_printed() {
    for chapter in ["first-steps", "writing", "rights"] {
        let document = format!("{}/docs/guide/src/{chapter}.md", env!("CARGO_MANIFEST_DIR"));
        shell().run(Path::new(&document), "");
    }
}

#[test]
fn each_chapter_is_in_the_contents_and_each_error_in_the_troubleshooting() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/src");
    let contents = std::fs::read_to_string(folder.join("SUMMARY.md")).unwrap();
    for file in std::fs::read_dir(&folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(
            name == "SUMMARY.md" || contents.contains(&format!("]({name})")),
            "{name}"
        );
    }
    let troubleshooting = std::fs::read_to_string(folder.join("troubleshooting.md")).unwrap();
    let schema = serde_json::to_value(schemars::schema_for!(kubernaut_crds::ErrorType)).unwrap();
    let classes = schema["oneOf"].as_array().unwrap();
    assert_eq!(classes.len(), 16);
    for class in classes.iter().filter_map(|class| class["const"].as_str()) {
        assert!(troubleshooting.contains(&format!("| `{class}` |")), "{class}");
    }
    let actions = std::fs::read_to_string(folder.join("actions.md")).unwrap();
    for kind in kubernaut_machines::actions::ActionKind::ALL {
        let is_named = kind.spellings().any(|spelling| actions.contains(spelling));
        assert!(is_named, "{kind:?}");
    }
}
