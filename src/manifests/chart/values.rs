//! The values of the chart: each described once, for values.yaml and for its schema.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{IMAGE, flags};
use crate::manifests::{Installation, deployment};

/// Width of the comments.
const WIDTH: usize = 110;

/// One value.
struct Entry {
    /// Its place: a name, or a group and a name.
    path: &'static str,
    comment: &'static str,
    default: Value,
    schema: Value,
}

fn entry(path: &'static str, comment: &'static str, default: Value, schema: Value) -> Entry {
    Entry {
        path,
        comment,
        default,
        schema,
    }
}

#[expect(clippy::too_many_lines, reason = "a table of values")]
fn entries() -> Vec<Entry> {
    let text = || json!({"type": "string"});
    let word = || json!({"type": "string", "minLength": 1});
    let yes_or_no = || json!({"type": "boolean"});
    let object = || json!({"type": "object"});
    let objects = || json!({"type": "array", "items": {"type": "object"}});
    let texts = || json!({"type": "object", "additionalProperties": {"type": "string"}});
    let named = json!({"type": "object", "required": ["name"], "additionalProperties": false,
                       "properties": {"name": {"type": "string", "minLength": 1}}});
    let secrets = || json!({"type": "array", "items": named});
    let (repository, tag) = IMAGE.split_once(':').unwrap_or((IMAGE, ""));
    // What the base has is the default.
    let base = deployment::pods(&Installation::default(), IMAGE);
    let pod = &base[1]["spec"]["template"]["spec"];
    vec![
        entry(
            "image.repository",
            "Where you pushed what the Dockerfile makes, such as registry.example/kubernaut.",
            json!(repository),
            word(),
        ),
        entry("image.tag", "Its tag.", json!(tag), text()),
        entry(
            "image.digest",
            "Its digest, such as sha256:0123...; it holds even if someone moves the tag.",
            json!(""),
            json!({"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}),
        ),
        entry(
            "image.pullPolicy",
            "Always, IfNotPresent or Never. Empty leaves it to Kubernetes.",
            json!(""),
            json!({"type": "string", "enum": ["", "Always", "IfNotPresent", "Never"]}),
        ),
        entry(
            "image.pullSecrets",
            "Secrets of the release's namespace with credentials for the registry, as [{name: NAME}].",
            json!([]),
            secrets(),
        ),
        entry(
            "kubectlPullSecrets",
            "The same for the image of the Jobs (flag kubectl-image): Secrets of type kubernetes.io/dockerconfigjson in \
             the executor namespace, which the accounts of the actions name.",
            json!([]),
            secrets(),
        ),
        entry(
            "flags",
            "Flags of the controller, by their names. Accounts, rights and policies follow them. Without a flag its default \
             holds, which stands here behind its name. The controller's namespace is that of the release.",
            json!({}),
            flags::schemas(),
        ),
        entry(
            "createExecutorNamespace",
            "Make the namespace of the Jobs (flag executor-namespace), for the strictest profile of Pod Security. Without it \
             the namespace has to be there before.",
            json!(true),
            yes_or_no(),
        ),
        entry(
            "crds.install",
            "Install the custom resource definitions, and bring them up to date with each upgrade: that is why they are \
             templates and do not lie in crds/, which helm never looks at again. Uninstalling leaves them, for with them \
             every workflow of the cluster would be deleted.",
            json!(true),
            yes_or_no(),
        ),
        entry(
            "people.install",
            "Install the roles kubernaut-view, kubernaut-edit and kubernaut-approve.",
            json!(true),
            yes_or_no(),
        ),
        entry(
            "people.aggregateToEdit",
            "Give view and edit to whoever has the built-in edit or admin.",
            json!(true),
            yes_or_no(),
        ),
        entry(
            "rego.configMap",
            "ConfigMap of the release's namespace with policies in Rego: what they do not allow does not run. It is mounted into \
             the controller's pods, which do not start without it. Empty: everything is allowed that RBAC allows.",
            json!(""),
            text(),
        ),
        entry(
            "policy.enabled",
            "Install the admission policies. Without them whoever may write a workflow or its status decides alone what is \
             approved and what runs, and whoever may make pods in the executor namespace has the rights of all actions.",
            json!(true),
            yes_or_no(),
        ),
        entry(
            "policy.failurePolicy",
            "Fail refuses a request on which the API server can't work a policy out; Ignore lets it pass.",
            json!("Fail"),
            json!({"type": "string", "enum": ["Fail", "Ignore"]}),
        ),
        entry(
            "policy.validationActions",
            "What is done with a request that a policy does not allow: Deny, Warn, Audit. Without Deny it passes.",
            json!(["Deny"]),
            json!({"type": "array", "minItems": 1, "uniqueItems": true,
                   "items": {"type": "string", "enum": ["Deny", "Warn", "Audit"]}}),
        ),
        entry(
            "networkPolicy.enabled",
            "Let controller and Jobs reach name servers and the API server alone, where the cluster's network enforces it.",
            json!(true),
            yes_or_no(),
        ),
        entry(
            "networkPolicy.apiServerPorts",
            "Ports of the API server: that of its Service, and its own behind it.",
            json!([443, 6443]),
            json!({"type": "array", "minItems": 1,
                   "items": {"type": "integer", "minimum": 1, "maximum": 65535}}),
        ),
        entry(
            "networkPolicy.apiServerPeers",
            "Its addresses, such as [{ipBlock: {cidr: 10.0.0.1/32}}]; kubectl get endpointslices -n default -l \
             kubernetes.io/service-name=kubernetes shows them, and the Service's own address belongs to them where the \
             network looks before it translates. Empty: these ports of any address, so that a Job that was taken over \
             could send what it read anywhere.",
            json!([]),
            objects(),
        ),
        entry(
            "networkPolicy.metricsPeers",
            "Who may reach the controller's port for metrics and probes, such as [{namespaceSelector: {matchLabels: \
             {kubernetes.io/metadata.name: monitoring}}}]; a node reaches its own pods in any case. Empty: every pod.",
            json!([]),
            objects(),
        ),
        entry(
            "pods.enabled",
            "Run the controller in this cluster. Without it, it runs elsewhere with the account that is installed here.",
            json!(true),
            yes_or_no(),
        ),
        entry(
            "pods.replicas",
            "One leads, the others take over.",
            base[1]["spec"]["replicas"].clone(),
            json!({"type": "integer", "minimum": 0}),
        ),
        entry(
            "pods.resources",
            "Idle it takes 12 MiB, with 200 workflows at once less than 70. A limit for the processor would make it renew \
             its lease late.",
            pod["containers"][0]["resources"].clone(),
            object(),
        ),
        entry(
            "pods.labels",
            "Further labels of the pods.",
            json!({}),
            // The other two are what the Deployment knows its pods by.
            json!({"type": "object", "additionalProperties": {"type": "string"},
                   "properties": {"app.kubernetes.io/part-of": false, "app.kubernetes.io/component": false}}),
        ),
        entry("pods.annotations", "Annotations of the pods.", json!({}), texts()),
        entry(
            "pods.nodeSelector",
            "Labels of the nodes where they may run.",
            json!({}),
            texts(),
        ),
        entry(
            "pods.tolerations",
            "Taints that don't keep them away.",
            json!([]),
            objects(),
        ),
        entry(
            "pods.affinity",
            "Near to what, and far from what, they run.",
            json!({}),
            object(),
        ),
        entry(
            "pods.topologySpreadConstraints",
            "How they are spread.",
            pod["topologySpreadConstraints"].clone(),
            objects(),
        ),
        entry(
            "podDisruptionBudget.enabled",
            "Let a drain take one pod at a time.",
            json!(true),
            yes_or_no(),
        ),
        entry(
            "priorityClass.create",
            "Make the class kubernaut-controller: above what is deployed without a class, below the cluster's own.",
            json!(true),
            yes_or_no(),
        ),
        entry(
            "priorityClass.name",
            "The class of the pods. Empty: none.",
            pod["priorityClassName"].clone(),
            text(),
        ),
    ]
}

/// values.yaml.
pub(super) fn text() -> Result<String, String> {
    let mut text = "# Made from the code: run ./dev fix.\n".to_owned();
    let mut last = "";
    for entry in entries() {
        let (group, name) = entry.path.split_once('.').unwrap_or(("", entry.path));
        if group.is_empty() || group != last {
            text.push('\n');
            if !group.is_empty() {
                let _ = writeln!(text, "{group}:");
            }
        }
        last = group;
        let indent = if group.is_empty() { "" } else { "  " };
        text.push_str(&commented(indent, entry.comment));
        let value =
            serde_saphyr::to_string(&json!({name: entry.default})).map_err(|error| error.to_string())?;
        for line in value.lines() {
            let _ = writeln!(text, "{indent}{line}");
        }
        if name == "flags" {
            text.push_str(&flags::comment());
        }
    }
    Ok(text)
}

/// Lines of a comment.
pub(super) fn commented(indent: &str, comment: &str) -> String {
    let mut lines = vec![format!("{indent}#")];
    for word in comment.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}# {word}")),
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

/// values.schema.json.
pub(super) fn schema() -> Result<String, serde_json::Error> {
    let group = || json!({"type": "object", "additionalProperties": false, "properties": {}});
    let mut schema = group();
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    // Helm adds it when another chart depends on this one.
    schema["properties"]["global"] = json!({"type": "object"});
    for entry in entries() {
        let mut described = entry.schema;
        described["description"] = json!(entry.comment);
        match entry.path.split_once('.') {
            Some((name, inner)) => {
                let properties = &mut schema["properties"];
                if properties[name].is_null() {
                    properties[name] = group();
                }
                properties[name]["properties"][inner] = described;
            }
            None => schema["properties"][entry.path] = described,
        }
    }
    serde_json::to_string_pretty(&schema).map(|text| text + "\n")
}
