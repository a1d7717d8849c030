//! What is refused of a manifest, and how.

use kubernaut_crds::ErrorType;
use serde_json::{Value, json};

use crate::step_harness::StepHarness;

fn apply(manifest: &str) -> StepHarness {
    let mut bed = StepHarness::new(
        json!({"action": "apply-manifest", "parameters": {"applyManifest": {"manifest": manifest}}}),
    );
    bed.settings.apply_manifest_kinds = vec!["ConfigMap".into()];
    bed.start();
    bed
}

#[test]
fn a_manifest_with_items_is_refused_whatever_kind_it_calls_itself() {
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: harmless, namespace: shop}\n";
    let smuggled = "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: kube-system}}";
    for items in [
        format!("items: [{smuggled}]"),
        "items: []".into(),
        "items: {}".into(),
        "\"items\": 1".into(),
    ] {
        let bed = apply(&format!("{head}{items}\n"));
        assert_eq!(
            bed.status().error_type,
            Some(ErrorType::ValidationError),
            "{items}"
        );
        assert!(
            bed.message().contains("not a list: it has items"),
            "{}",
            bed.message()
        );
        assert!(bed.made.is_empty());
    }
}

#[test]
fn a_list_is_no_manifest() {
    for kind in ["List", "ConfigMapList"] {
        let bed = apply(&format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {{name: a, namespace: shop}}\n"
        ));
        assert!(
            bed.message().contains(&format!("not a {kind}")),
            "{}",
            bed.message()
        );
    }
}

#[test]
fn a_name_that_yaml_takes_for_something_else_is_asked_for_in_quotes() {
    for name in ["1", "true", "1.5"] {
        let bed = apply(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\n"
        ));
        let words = format!("metadata.name is {name}, which is no text: write it in quotes");
        assert!(bed.message().contains(&words), "{}", bed.message());
    }
}

#[test]
fn kubectl_gets_the_object_that_was_checked() {
    let bed =
        apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n<<: {items: [1]}\n");
    for made in &bed.made {
        let template = made
            .job
            .spec
            .clone()
            .expect("a spec")
            .template
            .metadata
            .expect("metadata");
        let sent: Value =
            serde_json::from_str(&template.annotations.expect("annotations")["kubernaut.io/payload"])
                .expect("JSON");
        assert!(sent.get("items").is_none(), "{sent}");
    }
}
