//! The samples are run as a person runs them, and end as their comments say; the rights that they grant are those that
//! they need, no more and no fewer.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::rehearse::{run, text};

const DIRECTORY: &str = "deploy/samples";

/// How a sample ends.
struct Sample {
    file: &'static str,
    flags: &'static [&'static str],
    code: i32,
    /// Phase and outcome of its workflow.
    end: &'static str,
    /// The state of each step, by its number.
    steps: &'static [&'static str],
}

const fn succeeds(file: &'static str, steps: &'static [&'static str]) -> Sample {
    Sample {
        file,
        flags: &[],
        code: 0,
        end: "completed, success",
        steps,
    }
}

const DONE: &str = "completed";

const SAMPLES: [Sample; 11] = [
    succeeds("config-fix.yaml", &[DONE; 2]),
    succeeds("known-good-image.yaml", &[DONE; 2]),
    succeeds("memory-leak-restart.yaml", &[DONE]),
    succeeds("node-maintenance.yaml", &[DONE; 4]),
    Sample {
        code: 1,
        end: "completed, partial_success",
        ..succeeds("partial-success.yaml", &[DONE, "failed", "skipped", DONE])
    },
    Sample {
        flags: &["--apply-manifest-kinds=networking.k8s.io/NetworkPolicy"],
        ..succeeds("quarantine.yaml", &[DONE; 2])
    },
    succeeds("rotate-secret.yaml", &[DONE; 3]),
    succeeds("scale-and-restart.yaml", &[DONE; 3]),
    succeeds("scale-out.yaml", &[DONE; 2]),
    succeeds("shed-load.yaml", &[DONE; 4]),
    succeeds("stuck-pods.yaml", &[DONE; 2]),
];

impl Sample {
    fn path(&self) -> String {
        format!("{DIRECTORY}/{}", self.file)
    }

    fn read(&self) -> String {
        std::fs::read_to_string(self.path()).expect(self.file)
    }

    fn objects(&self) -> Vec<Value> {
        let text = self.read();
        let parse = |document| serde_saphyr::from_str(document).expect(self.file);
        text.split("\n---\n").map(parse).collect()
    }

    /// Runs these objects; exit code, what was said, and the workflow in its final state.
    fn run(&self, objects: &[Value]) -> (Option<i32>, String, Value) {
        let mut arguments = vec!["-", "--output", "json"];
        arguments.extend(self.flags);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let output = run(&arguments, &list.to_string());
        let errors = text(&output.stderr);
        let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let mut workflows = items
            .into_iter()
            .filter(|item| item["kind"] == "WorkflowExecution");
        let workflow = workflows.next().unwrap_or_default();
        assert!(
            workflows.next().is_none(),
            "{}: more than one workflow",
            self.file
        );
        (output.status.code(), errors, workflow)
    }
}

#[test]
fn every_sample_ends_as_it_says() {
    let mut files: BTreeSet<String> = Path::new(DIRECTORY)
        .read_dir()
        .expect(DIRECTORY)
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    for sample in SAMPLES {
        assert!(files.remove(sample.file), "{} is not in {DIRECTORY}", sample.file);
        let comment = sample.read();
        let (end, code) = (sample.end, sample.code);
        let says = format!("# Ends with: {end} (exit code {code}");
        assert!(comment.contains(&says), "{} does not say: {says}", sample.file);
        let command: Vec<String> = ["kubernaut", "rehearse"]
            .iter()
            .chain(sample.flags)
            .map(ToString::to_string)
            .chain([sample.path()])
            .collect();
        let says = format!("# Try it:    {}\n", command.join(" "));
        assert!(comment.contains(&says), "{} does not say: {says}", sample.file);

        let path = sample.path();
        let mut arguments = vec![path.as_str()];
        arguments.extend(sample.flags);
        let output = run(&arguments, "");
        let said = text(&output.stdout);
        let errors = text(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{}: {said}{errors}",
            sample.file
        );
        assert!(said.contains(&format!(": {end}\n")), "{}: {said}", sample.file);
        assert_eq!(errors, "", "{}", sample.file);

        let (_, errors, workflow) = sample.run(&sample.objects());
        let status = &workflow["status"];
        let ended = [&status["phase"], &status["workflowResult"]["outcome"]].map(|word| word.as_str());
        assert_eq!(
            ended.map(Option::unwrap_or_default).join(", "),
            end,
            "{}: {errors}",
            sample.file
        );
        let steps: Vec<&str> = status["stepStatuses"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|step| step["status"].as_str())
            .collect();
        assert_eq!(steps, sample.steps, "{}", sample.file);
    }
    assert_eq!(files, BTreeSet::new(), "samples without an expectation");
}

#[test]
fn node_maintenance_restarts_the_driver_of_the_drained_node_and_of_no_other() {
    let output = run(&["deploy/samples/node-maintenance.yaml"], "");
    let said = text(&output.stdout);
    assert!(
        said.contains("DaemonSet storage/local-storage-driver: 1 pod replaced"),
        "{said}"
    );
}

#[test]
fn the_readme_lists_every_sample() {
    let readme = std::fs::read_to_string("README.md").expect("README.md");
    for sample in SAMPLES {
        let link = format!("]({})", sample.path());
        assert!(readme.contains(&link), "{link}");
    }
}

/// `kubectl apply -l` must pick the account, its rights and the workflow, and nothing that a cluster has of its own.
#[test]
fn the_label_picks_what_a_cluster_lacks() {
    let lacks = |kind: &str| {
        kind == "ServiceAccount"
            || kind == "WorkflowExecution"
            || kind.ends_with("Role")
            || kind.ends_with("RoleBinding")
    };
    for sample in SAMPLES {
        for object in sample.objects() {
            let labelled = object["metadata"]["labels"]["app.kubernetes.io/component"] == "remediation";
            let kind = object["kind"].as_str().unwrap_or_default();
            assert_eq!(labelled, lacks(kind), "{}: {kind}", sample.file);
        }
    }
}

/// The rights of a role, one by one: `get deployments/scale in group apps named web`.
fn rights(rules: &Value) -> BTreeSet<String> {
    let words = |list: &Value| -> Vec<String> {
        let words = list.as_array().into_iter().flatten().filter_map(Value::as_str);
        words.map(str::to_owned).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in rules.as_array().into_iter().flatten() {
        let names = words(&rule["resourceNames"]);
        let names: Vec<String> = if names.is_empty() {
            vec![String::new()]
        } else {
            names.iter().map(|name| format!(" named {name}")).collect()
        };
        for group in words(&rule["apiGroups"]) {
            let group = if group.is_empty() {
                group
            } else {
                format!(" in group {group}")
            };
            for resource in words(&rule["resources"]) {
                for name in &names {
                    let one = |verb: &String| format!("{verb} {resource}{group}{name}");
                    rights.extend(words(&rule["verbs"]).iter().map(one));
                }
            }
        }
    }
    rights
}

fn is_role(object: &Value) -> bool {
    matches!(object["kind"].as_str(), Some("Role" | "ClusterRole"))
}

/// The rights that a workflow's failure names, without their namespaces.
fn named(workflow: &Value) -> BTreeSet<String> {
    let reason = workflow["status"]["failureReason"].as_str().unwrap_or_default();
    let rights = reason.split_once(" may not ").map_or("", |(_, rights)| rights);
    let rights = rights
        .split_once("; grant it")
        .map_or(rights, |(rights, _)| rights);
    let without_place = |right: &str| {
        let right = right.split(" in namespace ").next().unwrap_or_default();
        right.split(" in all namespaces").next().map(str::to_owned)
    };
    rights.split("; nor ").filter_map(without_place).collect()
}

#[test]
fn a_sample_grants_what_it_needs_and_nothing_more() {
    let mut with_rights = 0;
    for sample in SAMPLES {
        let mut objects = sample.objects();
        let granted: BTreeSet<String> = objects
            .iter()
            .filter(|object| is_role(object))
            .flat_map(|role| rights(&role["rules"]))
            .collect();
        if granted.is_empty() {
            continue;
        }
        with_rights += 1;
        for role in objects.iter_mut().filter(|object| is_role(object)) {
            role["rules"] = json!([]);
        }
        let (code, errors, workflow) = sample.run(&objects);
        assert_eq!(code, Some(1), "{}: {errors}", sample.file);
        assert_eq!(workflow["status"]["errorType"], "insufficient_permissions");
        assert_eq!(named(&workflow), granted, "{}", sample.file);
    }
    assert!(with_rights >= 4, "{with_rights}");
}

#[test]
fn a_sample_that_lacks_one_verb_fails_and_names_it() {
    for sample in SAMPLES {
        let mut objects = sample.objects();
        let Some(role) = objects.iter_mut().find(|object| is_role(object)) else {
            continue;
        };
        let before = rights(&role["rules"]);
        let rules = role["rules"].as_array_mut().expect("rules");
        let verbs = rules.last_mut().expect("a rule")["verbs"].as_array_mut();
        let verbs = verbs.expect("verbs");
        verbs.pop();
        // A rule without verbs is none.
        if verbs.is_empty() {
            rules.pop();
        }
        let removed: BTreeSet<String> = before.difference(&rights(&role["rules"])).cloned().collect();
        assert_ne!(removed, BTreeSet::new(), "{}", sample.file);
        let (code, errors, workflow) = sample.run(&objects);
        assert_eq!(code, Some(1), "{}: {errors}", sample.file);
        assert_eq!(workflow["status"]["errorType"], "insufficient_permissions");
        assert_eq!(named(&workflow), removed, "{}", sample.file);
    }
}
