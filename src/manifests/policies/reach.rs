//! How far the accounts of the actions reach. Their roles say kinds and verbs, for the whole cluster; the controller
//! says which object, and which of its fields. This says the same where the API server holds it, so that a token that
//! was taken from a node does no more than one action.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::names;
use kubernaut_machines::Settings;
use kubernaut_machines::actions::{ActionKind, Changes};
use kubernaut_machines::manifest_kinds::known_kinds;
use serde_json::{Value, json};

use super::{Policy, list, namespaces, quoted, requests};

/// What the API server says of a token that a kubelet asked for a pod. A token that was asked for otherwise has none.
const OF_A_POD: &str = "authentication.kubernetes.io/pod-name";

/// One for everywhere but the executor namespace, and one for there that passes over what kubernaut-executor-makers and -kept hold
/// already: each pod and each Job that is made or changed there would cost the API server another look.
pub(super) fn policies(settings: &Settings) -> Vec<Policy> {
    let executor = settings.executor_namespace.as_str();
    let matches = |operator: &str, rules: Vec<Value>| json!({"resourceRules": rules, "namespaceSelector": namespaces(operator, &[executor])});
    let mut at_home = resource_rules(&["pods", "jobs"]);
    for rule in &mut at_home {
        // A selector of namespaces lets through what is in none.
        rule["scope"] = json!("Namespaced");
    }
    at_home.push(requests("", &["pods"], &["DELETE"]));
    at_home.push(requests("batch", &["jobs"], &["DELETE"]));
    vec![
        policy(
            "kubernaut-executor-reach",
            matches("NotIn", resource_rules(&[])),
            settings,
        ),
        policy("kubernaut-executor-reach-home", matches("In", at_home), settings),
    ]
}

fn policy(name: &'static str, matches: Value, settings: &Settings) -> Policy {
    let executor = &settings.executor_namespace;
    let accounts = |changes: Changes| {
        let all = ActionKind::ALL.into_iter();
        list(
            all.filter(|kind| kind.changes() == changes)
                .map(ActionKind::service_account),
        )
    };
    let updates = "request.operation != 'UPDATE'";
    // Whoever asks for a patch or an apply says what is in it.
    let free = accounts(Changes::Anything);
    let protected = list(&settings.protected_namespaces);
    let evicts = format!(
        "variables.account in {} && variables.does == 'CREATE pods/eviction'",
        accounts(Changes::SchedulabilityAndPods)
    );
    let nodes = "request.resource.resource == 'nodes'";
    let data = accounts(Changes::Data);
    Policy::new(
        name,
        format!(
            "An account of namespace {executor} changes what its action changes and nothing else, in no protected \
             namespace, and only with the token of a pod."
        ),
        matches,
    )
    .when(
        "an-account-of-the-executor",
        format!(
            "request.userInfo.username.startsWith({})",
            quoted(&format!("system:serviceaccount:{executor}:"))
        ),
    )
    .variable("account", "request.userInfo.username.split(':')[3]")
    .variable(
        "does",
        "request.operation + ' ' + request.resource.resource + \
         (request.?subResource.orValue('') == '' ? '' : '/' + request.subResource)",
    )
    // As what they are, and not as one of the kinds that these rules are for: each has fields of its own.
    .variable("now", "dyn(object)")
    .variable("before", "dyn(oldObject)")
    .must_else(
        format!("{} in request.userInfo.?extra.orValue({{}})", quoted(OF_A_POD)),
        "variables.account + ' acts from the pods of its Jobs alone: this token is not that of a pod'",
        "accounts of the executor act from the pods of their Jobs alone: this token is not that of a pod",
    )
    .must_else(
        format!("variables.does in {}[?variables.account].orValue([])", deeds()),
        "variables.account + ' may not ' + variables.does + ': no step of its action does that'",
        "no step of this account's action does that",
    )
    .must_else(
        format!("!(request.?namespace.orValue('') in {protected}) || ({evicts})"),
        "'nothing is changed in namespace ' + request.namespace + ': it is protected (--protected-namespaces)'",
        "nothing is changed in a protected namespace (--protected-namespaces)",
    )
    .must_else(
        format!("{updates} || variables.account in {free} || ({})", kept_metadata()),
        "variables.account + ' leaves labels, annotations, owners and finalizers as they are'",
        "this account leaves labels, annotations, owners and finalizers as they are",
    )
    .must_else(
        format!(
            "{updates} || !({nodes}) || ({})",
            same_but("variables.now.spec", "variables.before.spec", &["unschedulable"])
        ),
        "variables.account + ' changes spec.unschedulable of a node and nothing else'",
        "this account changes spec.unschedulable of a node and nothing else",
    )
    .must_else(
        format!(
            "{updates} || !(variables.account in {}) || ({})",
            accounts(Changes::RestartAnnotations),
            restarted()
        ),
        format!(
            "variables.account + ' changes the annotations {} and {} of the pod template and nothing else'",
            names::ANNOTATION_RESTARTED_AT,
            names::ANNOTATION_RESTARTED_BY
        ),
        "this account changes the annotations of a restart in the pod template and nothing else",
    )
    // binaryData is no action's either: a key of it can't be named in a workflow.
    .must_else(
        format!(
            "{updates} || !(variables.account in {data}) || ({})",
            same_but("variables.now", "variables.before", &["data", "metadata"])
        ),
        "variables.account + ' changes data and nothing else'",
        "this account changes data and nothing else",
    )
}

/// The rules of an account with every kind that --apply-manifest-kinds may name: which of them it has is its role's to
/// say.
fn rules(kind: ActionKind) -> Vec<PolicyRule> {
    kind.rules(&Settings {
        apply_manifest_kinds: known_kinds(),
        ..Settings::default()
    })
}

/// Group, resource and operations that a rule lets through, reading apart.
fn writes(rule: &PolicyRule) -> Vec<(String, String, Vec<&'static str>)> {
    let operation = |verb: &String| match verb.as_str() {
        "create" => Some("CREATE"),
        "patch" | "update" => Some("UPDATE"),
        "delete" => Some("DELETE"),
        _ => None,
    };
    let operations: Vec<&str> = rule.verbs.iter().filter_map(operation).collect();
    let group = rule
        .api_groups
        .iter()
        .flatten()
        .next()
        .cloned()
        .unwrap_or_default();
    let resources = rule.resources.iter().flatten();
    resources
        .filter(|_| !operations.is_empty())
        .map(|resource| (group.clone(), resource.clone(), operations.clone()))
        .collect()
}

/// Every write of what any action writes, but of these resources: an account that was bound to more than its role does no more
/// than its action.
fn resource_rules(but: &[&str]) -> Vec<Value> {
    let mut resources: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut parts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let all = ActionKind::ALL.into_iter().flat_map(rules);
    let all = all.flat_map(|rule| writes(&rule));
    for (group, resource, _) in all.filter(|(_, resource, _)| !but.contains(&resource.as_str())) {
        let known = if resource.contains('/') {
            &mut parts
        } else {
            &mut resources
        };
        let known = known.entry(group).or_default();
        if !known.contains(&resource) {
            known.push(resource);
        }
    }
    let as_rules = |all: BTreeMap<String, Vec<String>>, operations: &[&str]| {
        let rule = |(group, resources): (String, Vec<String>)| {
            let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
            requests(&group, &resources, operations)
        };
        all.into_iter().map(rule).collect::<Vec<_>>()
    };
    let mut rules = as_rules(resources, &["CREATE", "UPDATE", "DELETE"]);
    rules.extend(as_rules(parts, &["CREATE", "UPDATE"]));
    rules
}

/// What each account does, as a map in CEL: from the table that its role is made of.
fn deeds() -> String {
    let writes_of = |kind: ActionKind| {
        let rules = rules(kind);
        let writes = rules.iter().flat_map(writes);
        let deeds = writes.flat_map(|(_, resource, operations)| {
            operations
                .into_iter()
                .map(move |operation| format!("{operation} {resource}"))
                .collect::<Vec<_>>()
        });
        format!("{}: {}", quoted(kind.service_account()), list(deeds))
    };
    format!("{{{}}}", ActionKind::ALL.map(writes_of).join(", "))
}

fn kept_metadata() -> String {
    ["labels", "annotations", "ownerReferences", "finalizers"]
        .map(|field| format!("variables.now.metadata.?{field} == variables.before.metadata.?{field}"))
        .join(" && ")
}

/// Of a map every field but these is the same in both.
fn same_but(now: &str, before: &str, fields: &[&str]) -> String {
    let fields = list(fields);
    let unchanged =
        |these: &str| format!("{these}.all(key, key in {fields} || {now}[?key] == {before}[?key])");
    format!("{} && {}", unchanged(now), unchanged(before))
}

/// Of a Deployment only the two annotations of a restart are others.
fn restarted() -> String {
    let [now, before] = ["variables.now.spec", "variables.before.spec"];
    let within = |path: &str| (format!("{now}.{path}"), format!("{before}.{path}"));
    let (template, template_before) = within("template");
    let (metadata, metadata_before) = within("template.?metadata.orValue({})");
    let (annotations, annotations_before) = within("template.?metadata.?annotations.orValue({})");
    [
        same_but(now, before, &["template"]),
        same_but(&template, &template_before, &["metadata"]),
        same_but(&metadata, &metadata_before, &["annotations"]),
        same_but(
            &annotations,
            &annotations_before,
            &[names::ANNOTATION_RESTARTED_AT, names::ANNOTATION_RESTARTED_BY],
        ),
    ]
    .join(" && ")
}
