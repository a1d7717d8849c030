//! `kubernaut new`, `lint`, `rights`, `graph`, `explain-field` and `schema`, as whoever writes workflows meets them.

use kubernaut_machines::actions::ActionKind;
use serde_json::Value;

use crate::rehearse::{program, text};

const ALL_KINDS: &str = "--apply-manifest-kinds=ConfigMap,networking.k8s.io/NetworkPolicy";

/// Exit code, standard output and standard error.
fn run(command: &str, arguments: &[&str], input: &str) -> (i32, String, String) {
    let output = program(command, arguments, input);
    let code = output.status.code().unwrap();
    (code, text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_new_workflow_of_any_action_is_sound_as_it_is_printed() {
    for action in ActionKind::ALL.into_iter().flat_map(ActionKind::spellings) {
        let (code, workflow, said) = run("new", &[action], "");
        assert_eq!(code, 0, "{action}: {said}");
        let (code, findings, said) = run("lint", &["-", "--strict", ALL_KINDS], &workflow);
        assert_eq!(code, 0, "{action}: {findings}{said}\n{workflow}");
        // What is commented out is sound, too, each by itself.
        let optional: Vec<&str> = workflow
            .lines()
            .filter(|line| {
                line.starts_with("    ") && line.trim_start().starts_with("# ") && line.contains(": ")
            })
            .filter(|line| {
                let field = line.trim_start().trim_start_matches("# ");
                field
                    .split(':')
                    .next()
                    .is_some_and(|name| name.chars().all(char::is_alphanumeric))
            })
            .collect();
        assert!(optional.len() > 4, "{workflow}");
        let with = |line: &&str| workflow.replace(*line, &line.replacen("# ", "", 1));
        let all: Vec<String> = optional.iter().map(with).collect();
        let (_, findings, _) = run("lint", &["-", ALL_KINDS], &all.join("---\n"));
        assert!(!findings.contains("error[schema]"), "{action}: {findings}");
    }
}

#[test]
fn steps_of_a_new_workflow_follow_each_other_and_an_unknown_action_is_answered_with_the_one_that_was_meant() {
    let (_, workflow, _) = run(
        "new",
        &["cordon-node", "drain-node", "--name", "empty", "-n", "ops"],
        "",
    );
    let workflow: Value = serde_saphyr::from_str(&workflow).unwrap();
    assert_eq!(workflow["metadata"]["generateName"], "empty-");
    assert_eq!(workflow["metadata"]["namespace"], "ops");
    let steps = &workflow["spec"]["workflowDefinition"]["steps"];
    assert_eq!(steps[1]["dependsOn"], serde_json::json!([1]));
    let (code, _, said) = run("new", &["drain-nod"], "");
    assert_eq!(code, 2);
    assert!(said.contains("did you mean drain-node?"), "{said}");
}

const WRONG: &str = "
apiVersion: workflow.kubernaut.io/v1
kind: WorkflowExecution
metadata:
  name: a
  annotations: {kubernaut.io/approved: 'yes'}
spec:
  workflowDefinition:
    name: a
    version: v1
    steps:
    - stepNumber: 1
      name: one
      action: scale-deployment
      tiemout: 1m
      dependsOn: [7]
      parameters:
        scaleDeployment: {namespace: shop, deployment: web, replicas: 2}
    - stepNumber: 2
      name: two
      action: scale-deployment
      parameters:
        scaleDeployment: {namespace: shop, deployment: web, replicas: 3}
---
a: [
";

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_place_in_each_form() {
    let (code, findings, said) = run("lint", &["-"], WRONG);
    assert_eq!(code, 1);
    for words in [
        "-:15: error[schema]: WorkflowExecution a: spec.workflowDefinition.steps[0].tiemout: unknown field; did you mean timeout?",
        "-:16: error[planning]: WorkflowExecution a: spec.workflowDefinition.steps[0].dependsOn[0]:",
        "error[syntax]: is not YAML",
        "-:6: warning[unread]: WorkflowExecution a: metadata.annotations.kubernaut.io/approved: nothing reads this annotation",
    ] {
        assert!(findings.contains(words), "{words}\n{findings}");
    }
    assert!(
        said.contains("1 workflow in 1 object: 3 errors, 1 warning."),
        "{said}"
    );

    let (code, report, _) = run("lint", &["-", "-o", "json"], WRONG);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((code, &report["errors"]), (1, &serde_json::json!(3)), "{report}");
    assert_eq!(report["findings"][0]["line"], 15);
    assert_eq!(report["apiVersion"], "cli.kubernaut.io/v1");

    let (_, sarif, _) = run("lint", &["-", "-o", "sarif"], WRONG);
    let sarif: Value = serde_json::from_str(&sarif).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(sarif["version"], "2.1.0");
    assert_eq!(
        (&result["ruleId"], &result["level"]),
        (&"schema".into(), &"error".into())
    );
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["id"] == "schema"));

    let (_, annotations, _) = run("lint", &["-", "-o", "github"], WRONG);
    assert!(
        annotations.starts_with("::error file=-,line=15,title=kubernaut schema::WorkflowExecution a: "),
        "{annotations}"
    );
}

#[test]
fn warnings_are_errors_only_when_they_shall_be() {
    let opposed = WRONG
        .replace("      tiemout: 1m\n      dependsOn: [7]\n", "")
        .replace("  annotations: {kubernaut.io/approved: 'yes'}\n", "")
        .replace("---\na: [\n", "");
    let (code, findings, _) = run("lint", &["-"], &opposed);
    assert_eq!(code, 0, "{findings}");
    assert!(
        findings.starts_with("-:16: warning[opposed-steps]: "),
        "{findings}"
    );
    assert_eq!(run("lint", &["-", "--strict"], &opposed).0, 1);
}

#[test]
fn rights_are_those_of_the_steps_and_of_taking_them_back() {
    let (code, roles, said) = run("rights", &["deploy/samples/scale-and-restart.yaml"], "");
    assert_eq!(code, 0, "{said}");
    assert!(
        roles.contains("kind: Role\nmetadata: {name: \"kubernaut:shop:default\", namespace: shop}"),
        "{roles}"
    );
    assert!(
        roles.contains("resources: [deployments/scale], resourceNames: [\"checkout\"], verbs: [get, patch]"),
        "{roles}"
    );
    let sample = ["deploy/samples/quarantine.yaml", ALL_KINDS];
    let (_, without, _) = run("rights", &sample, "");
    let (_, with, _) = run("rights", &[sample[0], sample[1], "--with-rollback"], "");
    let deletes = "verbs: [delete, get, patch]";
    assert!(with.contains(deletes), "{with}");
    assert_eq!(without.contains(deletes), with == without, "{without}");
    let (code, _, said) = run("rights", &["-"], WRONG);
    assert_eq!(code, 2);
    assert!(said.contains("error: -:15: "), "{said}");
}

#[test]
fn a_field_is_explained_and_one_that_there_is_not_is_answered_with_the_one_that_was_meant() {
    let (code, said, _) = run("explain-field", &["spec.workflowDefinition.steps.timeout"], "");
    assert_eq!(code, 0);
    assert!(said.starts_with("KIND:   WorkflowExecution (workflow.kubernaut.io/v1)\nFIELD:  spec.workflowDefinition.steps.timeout <string>"), "{said}");
    assert!(said.contains("a duration:"), "{said}");
    let (_, said, _) = run("explain-field", &["approval.spec"], "");
    assert!(said.contains("  approver <string> -required-\n"), "{said}");
    let (code, _, said) = run("explain-field", &["spec.workflowDefinition.step"], "");
    assert_eq!(code, 2);
    assert!(said.contains("did you mean steps?"), "{said}");
    let (code, _, said) = run("explain-field", &["workflow"], "");
    assert_eq!(code, 2);
    assert!(said.contains("did you mean WorkflowExecution?"), "{said}");
}

#[test]
fn a_graph_of_a_file_is_a_tree_text_for_others_or_a_picture() {
    let sample = "deploy/samples/scale-and-restart.yaml";
    let (code, tree, _) = run("graph", &[sample], "");
    assert_eq!(code, 0);
    assert!(tree.contains("3 new-pods (also after 1)"), "{tree}");
    assert!(
        run("graph", &[sample, "-o", "mermaid"], "")
            .1
            .contains("  s1 --> s3\n")
    );
    assert!(
        run("graph", &[sample, "-o", "dot"], "")
            .1
            .contains("  s2 -> s3;\n")
    );
    assert!(run("graph", &[sample, "-o", "svg"], "").1.contains("</svg>"));
    assert_eq!(run("graph", &["nowhere.yaml"], "").0, 2);
}
