//! Files are read as kubectl reads them.

use std::fmt::Write as _;
use std::process::Output;

use serde_json::Value;

use super::input::refused_input;
use super::world::workflow;
use super::{DEPLOYMENT, WORKFLOW, run, text};

const RESTART: &str =
    "action: restart-deployment, parameters: {restartDeployment: {namespace: shop, deployment: web}}";
const UPDATE: &str = "action: update-configmap, parameters: {updateConfigMap: {namespace: shop, name: conf, dataUpdates: {a: b}}}";
const CONFIG: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf, namespace: shop}\ndata: {a: \"1\"}\n";

fn succeeds(arguments: &[&str], input: &str) -> Output {
    let output = run(arguments, input);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

/// The object of this kind and name in the end.
fn in_the_end(arguments: &[&str], input: &str, kind: &str, name: &str) -> Value {
    let output = succeeds(&[arguments, &["--output=json"]].concat(), input);
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let items = list["items"].as_array().expect("items");
    let found = items
        .iter()
        .find(|item| item["kind"] == kind && item["metadata"]["name"] == name);
    found.expect(name).clone()
}

fn with_volumes(volumes: &str) -> String {
    DEPLOYMENT.replace(
        "spec: {containers: [{name: web, image: web:1}]}",
        &format!("spec: {{containers: [{{name: web, image: web:1}}], volumes: [{volumes}]}}"),
    )
}

#[test]
fn file_modes_are_octal_where_they_are_written_so() {
    let volumes = "{name: a, configMap: {name: c, defaultMode: 0644, items: [{key: k, path: k, mode: 0755}]}}, \
                   {name: b, secret: {secretName: s, defaultMode: 0o400}}, {name: d, projected: {defaultMode: 288}}";
    let input = format!("{}{}", with_volumes(volumes), workflow(&[RESTART]));
    let web = in_the_end(&["-"], &input, "Deployment", "web");
    let volumes = &web["spec"]["template"]["spec"]["volumes"];
    assert_eq!(volumes[0]["configMap"]["defaultMode"], 420);
    assert_eq!(volumes[0]["configMap"]["items"][0]["mode"], 493);
    assert_eq!(volumes[1]["secret"]["defaultMode"], 256);
    assert_eq!(volumes[2]["projected"]["defaultMode"], 288);
}

#[test]
fn a_manifest_reaches_the_cluster_with_the_modes_that_it_says() {
    let apply = |mode: &str| {
        let manifest = with_volumes(&format!(
            "{{name: k, secret: {{secretName: k, defaultMode: {mode}}}}}"
        ))
        .replace("name: web", "name: vault")
        .replace("---\n", "");
        let manifest = serde_json::to_string(&manifest).expect("JSON");
        workflow(&[&format!(
            "action: apply-manifest, maxRetries: 0, parameters: {{custom: {{actionType: apply-manifest, config: {{manifest: {manifest}}}}}}}"
        )])
    };
    let flag = "--apply-manifest-kinds=apps/Deployment";
    let vault = in_the_end(&["-", flag], &apply("0440"), "Deployment", "vault");
    let volumes = &vault["spec"]["template"]["spec"]["volumes"];
    assert_eq!(volumes[0]["secret"]["defaultMode"], 288);
    let output = run(&["-", flag], &apply("01000"));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("between 0 and 0777 (octal)"), "{said}");
}

#[test]
fn a_mode_that_no_file_can_have_is_refused() {
    for mode in ["01000", "-1"] {
        let volume = format!("{{name: a, configMap: {{name: c, defaultMode: {mode}}}}}");
        refused_input(
            &format!("{}{WORKFLOW}", with_volumes(&volume)),
            &["volumes[0].configMap.defaultMode", "between 0 and 0777 (octal)"],
        );
    }
}

#[test]
fn base64_may_have_line_breaks() {
    let secret = "apiVersion: v1
kind: Secret
metadata: {name: db, namespace: shop}
data:
  key: |
    aGVs
    bG8=
  user: \"Y3Jvb3Q=\\n\"
";
    let step = "action: update-secret, parameters: {updateSecret: {namespace: shop, name: db, dataUpdates: {password: \"aGVs\\nbG8=\"}}}";
    let secret = format!("{secret}{}", workflow(&[step]));
    let db = in_the_end(&["-"], &secret, "Secret", "db");
    // Values are masked; that they are there is enough.
    for key in ["key", "user", "password"] {
        assert!(db["data"][key].is_string(), "{db}");
    }
}

#[test]
fn a_list_is_one_of_whatever_kind_it_says() {
    let item = "{metadata: {name: conf, namespace: shop}, data: {a: '1'}}";
    for list in [
        format!("{{apiVersion: v1, kind: ConfigMapList, items: [{item}]}}"),
        format!(
            "{{apiVersion: v1, kind: List, items: [{{apiVersion: v1, kind: ConfigMapList, items: [{item}]}}]}}"
        ),
    ] {
        let input = format!("{list}\n{}", workflow(&[UPDATE]));
        let conf = in_the_end(&["-"], &input, "ConfigMap", "conf");
        assert_eq!(conf["data"]["a"], "b");
    }
    // Where something is wrong in it, it has its line.
    refused_input(
        &format!(
            "apiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {{name: a}}\n- metadata: {{}}\n{}",
            workflow(&[UPDATE])
        ),
        &["-:5: ConfigMap: metadata.name: is missing"],
    );
}

#[test]
fn documents_lie_between_their_marks_and_nothing_else_stands_there() {
    let marked = format!(
        "{CONFIG}---\t# next\n{}",
        workflow(&[UPDATE]).trim_start_matches("---\n")
    );
    succeeds(&["-"], &marked);
    let inline = format!(
        "--- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: conf, namespace: shop}}}}\n{}",
        workflow(&[UPDATE])
    );
    refused_input(&inline, &["-:1: nothing but a comment can stand behind ---"]);
}

#[test]
fn a_file_has_one_of_the_encodings_that_kubectl_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wide.yaml");
    let content = format!("{CONFIG}{}", workflow(&[UPDATE]));
    let units: Vec<u8> = std::iter::once(0xfeff)
        .chain(content.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    std::fs::write(&path, units).expect("written");
    succeeds(&[path.to_str().expect("a path")], "");
    std::fs::write(&path, [b"a: \xff\xfe\n".as_slice(), &[0]].concat()).expect("written");
    let output = run(&[path.to_str().expect("a path")], "");
    let errors = text(&output.stderr);
    assert!(
        errors.contains("wide.yaml: is not text in UTF-8 or UTF-16 (line 1)"),
        "{errors}"
    );
}

#[test]
fn json_values_may_follow_each_other() {
    let conf = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf", "namespace": "shop"}, "data": {"e": "\ud83d\ude80 a\/b"}}"#;
    let other = conf.replace("\"conf\"", "\"other\"");
    let input = format!("{conf}\n{other}\n{}", workflow(&[UPDATE]));
    let found = in_the_end(&["-"], &input, "ConfigMap", "other");
    assert_eq!(found["data"]["e"], "\u{1f680} a/b");
    refused_input(
        &format!(
            "{conf}\n{}",
            other.replace("\"data\"", "\n\"kind\": \"ConfigMap\", \"data\"")
        ),
        &["-:3: duplicate key: kind"],
    );
}

#[test]
fn a_tab_is_named_where_it_is() {
    refused_input(
        "a:\n\tb: c\n",
        &["-:2: is not YAML: is indented by a tab: write spaces"],
    );
}

#[test]
fn aliases_stand_for_what_they_name_and_cost_no_more_than_a_file() {
    let input = DEPLOYMENT
        .replace("matchLabels: {app: web}", "matchLabels: &labels {app: web}")
        .replace("labels: {app: web}", "labels: *labels");
    succeeds(&["-"], &format!("{input}{}", workflow(&[RESTART])));
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, of) in [
        ("b", "a"),
        ("c", "b"),
        ("d", "c"),
        ("e", "d"),
        ("f", "e"),
        ("g", "f"),
    ] {
        let _ = writeln!(
            bomb,
            "{name}: &{name} [{}]",
            vec![format!("*{of}"); 10].join(", ")
        );
    }
    refused_input(&bomb, &["aliases make more values"]);
}
