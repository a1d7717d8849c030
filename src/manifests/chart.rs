//! What of the Helm chart (deploy/charts/kubernaut) comes from the code: the same objects as [`files`](super::files),
//! made with placeholders where a value of the chart stands, and the values, which are described once, in `values`.
//!
//! The rest of the chart is written by hand: `_helpers.tpl` has the few expressions that stand in placeholders. Whether the
//! chart says the same as `kubernaut manifests` is tested on what helm makes of it.

mod flags;
mod placeholder;
mod values;

use std::fmt::Write;

use kubernaut_machines::Settings;
use kubernaut_machines::actions::ActionKind;
use kubernaut_machines::manifest_kinds::{ManifestKind, allowed_kinds, known_kinds};
use serde_json::{Value, json};

use self::placeholder::Placeholders;
use super::{CONTROLLER_NAMESPACE, File, IMAGE, Installation, MANAGED_BY, people};

const EXECUTOR_NAMESPACE: &str = "include \"kubernaut.executorNamespace\" .";
/// Label by which objects of the controller and of its namespace are known.
const COMPONENT: &str = "app.kubernetes.io/component";

/// A file of the chart.
#[derive(Clone, Debug)]
pub struct ChartFile {
    /// Its path in the chart.
    pub path: String,
    /// What stands in it.
    pub text: String,
}

/// The files of the chart that come from the code.
///
/// # Errors
/// When something can't be serialized, which happens for nothing that is made here.
pub fn files() -> Result<Vec<ChartFile>, String> {
    let error = |error: serde_json::Error| error.to_string();
    let mut placeholders = Placeholders::default();
    let with_placeholders = installation(&mut placeholders);
    let mut files = vec![
        file("Chart.yaml", chart()),
        file("values.yaml", values::text()?),
        file("values.schema.json", values::schema().map_err(error)?),
        file("templates/_from-code.tpl", flags::template()),
    ];
    for made in super::files(&with_placeholders).map_err(error)? {
        files.push(file(
            &format!("templates/{}", made.name),
            template(made, &mut placeholders)?,
        ));
    }
    Ok(files)
}

fn file(path: &str, text: String) -> ChartFile {
    ChartFile {
        path: path.to_owned(),
        text,
    }
}

fn chart() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "# Made from the code: run ./dev fix.
apiVersion: v2
name: kubernaut
description: {:?}
type: application
version: {version}
appVersion: v{version}
# Admission policies with variables and match conditions.
kubeVersion: \">=1.32.0-0\"
",
        env!("CARGO_PKG_DESCRIPTION")
    )
}

/// An installation whose every choice is a placeholder.
fn installation(placeholders: &mut Placeholders) -> Installation {
    Installation {
        settings: Settings {
            executor_namespace: placeholders.text(EXECUTOR_NAMESPACE),
            protected_namespaces: [placeholders.text("include \"kubernaut.protectedNamespaces\" .")].into(),
            apply_manifest_kinds: known_kinds(),
            ..Settings::default()
        },
        controller_namespace: placeholders.text(".Release.Namespace"),
        image: Some(placeholders.text("include \"kubernaut.image\" .")),
        flags: Vec::new(),
        policy_config_map: None,
    }
}

/// A file of the installation as a template.
fn template(file: File, placeholders: &mut Placeholders) -> Result<String, String> {
    let mut text = "{{- /* Made from the code: run ./dev fix. */ -}}\n".to_owned();
    for mut object in file.objects {
        if object["kind"] == "Namespace" && object["metadata"]["labels"][COMPONENT] == "controller" {
            // Helm itself makes the namespace of a release, before anything of a chart.
            continue;
        }
        object["metadata"]["labels"][MANAGED_BY] = json!(placeholders.text(".Release.Service"));
        let condition = open(file.name, &mut object, placeholders);
        if let Some(condition) = &condition {
            let _ = writeln!(text, "{{{{- if {condition} }}}}");
        }
        text.push_str("---\n");
        text.push_str(
            &placeholders.filled(&serde_saphyr::to_string(&object).map_err(|error| error.to_string())?),
        );
        if condition.is_some() {
            text.push_str("{{- end }}\n");
        }
    }
    Ok(text)
}

/// Puts placeholders where a value of the chart stands; returns on what it depends whether the object is there at all.
fn open(file: &str, object: &mut Value, placeholders: &mut Placeholders) -> Option<String> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    match (file, kind.as_str()) {
        ("crds.yaml", _) => {
            object["metadata"]["annotations"]["helm.sh/resource-policy"] = json!("keep");
            Some(".Values.crds.install".to_owned())
        }
        ("namespaces.yaml", _) => Some(".Values.createExecutorNamespace".to_owned()),
        ("executor-rbac.yaml", kind) => {
            let installed = installed(object);
            match kind {
                "ServiceAccount" => {
                    object["imagePullSecrets"] = placeholders.field(".Values.kubectlPullSecrets");
                }
                "ClusterRole" => rules_by_kind(object, placeholders),
                _ => {}
            }
            installed
        }
        ("controller-rbac.yaml", "ClusterRole") => {
            rules_by_kind(object, placeholders);
            None
        }
        ("people-rbac.yaml", _) => {
            let labels = &mut object["metadata"]["labels"];
            if !labels[people::INTO_EDIT].is_null() {
                labels[people::INTO_EDIT] = json!(placeholders.text(".Values.people.aggregateToEdit"));
            }
            Some(".Values.people.install".to_owned())
        }
        ("admission-policies.yaml", kind) => {
            if kind == "ValidatingAdmissionPolicy" {
                object["spec"]["failurePolicy"] = json!(placeholders.text(".Values.policy.failurePolicy"));
            } else {
                object["spec"]["validationActions"] = placeholders.field(".Values.policy.validationActions");
            }
            Some(".Values.policy.enabled".to_owned())
        }
        ("network-policies.yaml", _) => {
            let api_server = &mut object["spec"]["egress"][1];
            api_server["ports"] = placeholders.block("include \"kubernaut.apiServerPorts\" .");
            api_server["to"] = placeholders.field(".Values.networkPolicy.apiServerPeers");
            if let Some(ingress) = object["spec"].get_mut("ingress") {
                *ingress = placeholders.block("include \"kubernaut.metricsIngress\" .");
            }
            Some(".Values.networkPolicy.enabled".to_owned())
        }
        ("controller.yaml", kind) => {
            let also = match kind {
                "PriorityClass" => " .Values.priorityClass.create",
                "PodDisruptionBudget" => " .Values.podDisruptionBudget.enabled",
                _ => {
                    open_pods(object, placeholders);
                    return Some(".Values.pods.enabled".to_owned());
                }
            };
            Some(format!("and .Values.pods.enabled{also}"))
        }
        _ => None,
    }
}

/// Whether the action of an account, or of its role or binding, is installed.
fn installed(object: &Value) -> Option<String> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let mut all = ActionKind::ALL.into_iter();
    let kind = all.find(|kind| kind.service_account() == name || kind.cluster_role() == name)?;
    Some(format!(
        "include \"kubernaut.installs\" (list . {:?})",
        kind.canonical()
    ))
}

fn open_pods(deployment: &mut Value, placeholders: &mut Placeholders) {
    deployment["spec"]["replicas"] = placeholders.value("int .Values.pods.replicas");
    let template = &mut deployment["spec"]["template"];
    let labels = placeholders.entries(".Values.pods.labels");
    template["metadata"]["labels"][labels] = json!("");
    template["metadata"]["annotations"] = placeholders.field(".Values.pods.annotations");
    let spec = &mut template["spec"];
    for field in [
        "nodeSelector",
        "tolerations",
        "affinity",
        "topologySpreadConstraints",
    ] {
        spec[field] = placeholders.field(&format!(".Values.pods.{field}"));
    }
    spec["imagePullSecrets"] = placeholders.field(".Values.image.pullSecrets");
    spec["priorityClassName"] = placeholders.field(".Values.priorityClass.name");
    spec["volumes"] = placeholders.field("include \"kubernaut.policyVolumes\" . | fromYamlArray");
    let container = &mut spec["containers"][0];
    container["volumeMounts"] = placeholders.field("include \"kubernaut.policyMounts\" . | fromYamlArray");
    container["imagePullPolicy"] = placeholders.field(".Values.image.pullPolicy");
    container["resources"] = placeholders.field(".Values.pods.resources");
    container["args"] = placeholders.block("include \"kubernaut.args\" .");
}

/// All that may be named in --apply-manifest-kinds, in the order of the table.
fn every_kind() -> Vec<&'static ManifestKind> {
    allowed_kinds(&Settings {
        apply_manifest_kinds: known_kinds(),
        ..Settings::default()
    })
}

/// Where a role ends with a rule for each kind that may be applied, each of them gets its condition.
fn rules_by_kind(role: &mut Value, placeholders: &mut Placeholders) {
    let kinds = every_kind();
    let rules = role["rules"].as_array().cloned().unwrap_or_default();
    let (always, by_kind) = rules.split_at(rules.len().saturating_sub(kinds.len()));
    let is_for = |(rule, kind): (&Value, &&ManifestKind)| {
        rule["apiGroups"] == json!([kind.group]) && rule["resources"] == json!([kind.plural])
    };
    if by_kind.len() < kinds.len() || !by_kind.iter().zip(&kinds).all(is_for) {
        return;
    }
    let mut open = always.to_vec();
    if always.is_empty() {
        // A list of nothing but conditions would be no list when none of them holds.
        open.push(
            placeholders.line("{{- if not (index .Values.flags \"apply-manifest-kinds\") }} []{{ end }}"),
        );
    }
    for (rule, kind) in by_kind.iter().zip(&kinds) {
        let condition = format!(
            "include \"kubernaut.applies\" (list . {:?} {:?})",
            kind.group, kind.kind
        );
        open.push(placeholders.line(&format!("{{{{- if {condition} }}}}")));
        open.push(rule.clone());
        open.push(placeholders.line("{{- end }}"));
    }
    role["rules"] = json!(open);
}
