//! Role-based access control over the stored roles and bindings.

use serde_json::{Value, json};

use crate::api::User;
use crate::api::kinds::resource_name;
use crate::api::request::RequestInfo;
use crate::api::state::State;
use crate::api::status::{ApiError, FieldError};

const GROUP: &str = "rbac.authorization.k8s.io";

/// What one request wants to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// For requests that are no resource, such as `/version`.
    pub(crate) path: Option<String>,
}

impl Attributes {
    pub(crate) fn of(info: &RequestInfo, selected: Option<&str>, path: &str) -> Self {
        Self {
            verb: info.verb.clone(),
            group: info.group.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            namespace: if info.resource == "namespaces" {
                info.name.clone()
            } else {
                info.namespace.clone()
            },
            name: selected.map_or_else(|| info.name.clone(), ToOwned::to_owned),
            path: info.resource.is_empty().then(|| path.to_owned()),
        }
    }

    fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// Paths that everyone who is known may read.
fn is_public(path: &str) -> bool {
    let whole = [
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/readyz",
        "/openapi",
        "/version",
        "/version/",
    ];
    whole.contains(&path)
        || ["/api/", "/apis/", "/openapi/"]
            .iter()
            .any(|root| path.starts_with(root))
}

/// The answer to whether a user may.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
}

impl State {
    /// Refuses a request that its user may not make.
    pub(crate) fn authorize(
        &self,
        info: &RequestInfo,
        selected: Option<&str>,
        path: &str,
    ) -> Result<(), ApiError> {
        let attributes = Attributes::of(info, selected, path);
        let decision = self.decide(&info.user, &attributes);
        if decision.allowed {
            return Ok(());
        }
        let why = if let Some(path) = &attributes.path {
            let verb = if info.verb.is_empty() { "get" } else { &info.verb };
            format!("User {:?} cannot {verb} path {path:?}", info.user.name)
        } else {
            let scope = if attributes.namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {:?}", attributes.namespace)
            };
            format!(
                "User {:?} cannot {} resource {:?} in API group {:?} {scope}",
                info.user.name,
                attributes.verb,
                attributes.full_resource(),
                attributes.group,
            )
        };
        let why = if decision.reason.is_empty() {
            why
        } else {
            format!("{why}: {}", decision.reason)
        };
        if attributes.path.is_some() {
            return Err(ApiError::forbidden_path(&why));
        }
        Err(forbidden(&attributes, &why))
    }

    /// Evaluates roles and bindings.
    pub(crate) fn decide(&self, user: &User, attributes: &Attributes) -> Decision {
        if self.options.rbac == crate::api::Rbac::AllowAll
            || user.groups.iter().any(|g| g == "system:masters")
        {
            return Decision {
                allowed: true,
                reason: String::new(),
            };
        }
        // What the bootstrap roles system:discovery and system:basic-user give everyone.
        let authenticated = user.groups.iter().any(|g| g == "system:authenticated");
        let basic = attributes.path.as_deref().is_some_and(is_public)
            || (attributes.group == "authorization.k8s.io"
                && attributes.resource.starts_with("selfsubject")
                && attributes.verb == "create");
        if authenticated && basic {
            return Decision {
                allowed: true,
                reason: String::new(),
            };
        }
        let mut missing = Vec::new();
        for (_, binding) in self
            .store
            .list("clusterrolebindings.rbac.authorization.k8s.io", "")
        {
            if let Some(subject) = matching_subject(binding, user, "") {
                match self.role_rules(binding, "") {
                    Ok(rules) if rules.iter().any(|r| allows(r, attributes)) => {
                        return granted(binding, "ClusterRoleBinding", &subject);
                    }
                    Ok(_) => {}
                    Err(role) => missing.push(role),
                }
            }
        }
        if !attributes.namespace.is_empty() {
            for (key, binding) in self
                .store
                .list("rolebindings.rbac.authorization.k8s.io", &attributes.namespace)
            {
                if let Some(subject) = matching_subject(binding, user, &key.namespace) {
                    match self.role_rules(binding, &key.namespace) {
                        Ok(rules) if rules.iter().any(|r| allows(r, attributes)) => {
                            return granted(binding, "RoleBinding", &subject);
                        }
                        Ok(_) => {}
                        Err(role) => missing.push(role),
                    }
                }
            }
        }
        let reason = match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        };
        Decision {
            allowed: false,
            reason,
        }
    }

    /// Answers a (Self)SubjectAccessReview.
    pub(crate) fn review(&self, user: &User, mut review: Value, is_self: bool) -> Result<Value, ApiError> {
        // The server's types leave empty texts out.
        for part in ["resourceAttributes", "nonResourceAttributes"] {
            if let Some(attributes) = review["spec"].get_mut(part).and_then(Value::as_object_mut) {
                attributes.retain(|_, value| value != "");
            }
        }
        let spec = review["spec"].clone();
        let resource = &spec["resourceAttributes"];
        let path = &spec["nonResourceAttributes"];
        if resource.is_object() == path.is_object() {
            return Err(ApiError::invalid_review(&if resource.is_object() {
                FieldError::invalid(
                    "spec.nonResourceAttributes",
                    &json!({"Path": path["path"], "Verb": path["verb"]}),
                    "cannot be specified in combination with resourceAttributes",
                )
            } else {
                FieldError::invalid(
                    "spec.resourceAttributes",
                    &Value::Null,
                    "exactly one of nonResourceAttributes or resourceAttributes must be specified",
                )
            }));
        }
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let asked = if is_self {
            user.clone()
        } else {
            let groups = spec["groups"]
                .as_array()
                .into_iter()
                .flatten()
                .map(text)
                .collect::<Vec<String>>();
            if text(&spec["user"]).is_empty() && groups.is_empty() {
                return Err(ApiError::invalid_review(&FieldError::invalid(
                    "spec.user",
                    &json!(""),
                    "at least one of user or group must be specified",
                )));
            }
            User {
                name: text(&spec["user"]),
                groups,
            }
        };
        let attributes = if resource.is_object() {
            Attributes {
                verb: text(&resource["verb"]),
                group: text(&resource["group"]),
                resource: text(&resource["resource"]),
                subresource: text(&resource["subresource"]),
                namespace: text(&resource["namespace"]),
                name: text(&resource["name"]),
                path: None,
            }
        } else {
            Attributes {
                verb: text(&path["verb"]),
                path: Some(text(&path["path"])),
                ..Attributes::default()
            }
        };
        let decision = self.decide(&asked, &attributes);
        let mut status = json!({"allowed": decision.allowed});
        if !decision.reason.is_empty() {
            status["reason"] = json!(decision.reason);
        }
        review["status"] = status;
        review["metadata"] = json!({});
        Ok(review)
    }

    /// The rules behind a binding, or the text of the error that its role does not exist.
    fn role_rules(&self, binding: &Value, namespace: &str) -> Result<Vec<Value>, String> {
        let name = binding["roleRef"]["name"].as_str().unwrap_or("");
        let (resource, namespace) = if binding["roleRef"]["kind"] == "Role" {
            ("roles.rbac.authorization.k8s.io", namespace)
        } else {
            ("clusterroles.rbac.authorization.k8s.io", "")
        };
        let Some(role) = self.store.find(resource, namespace, name) else {
            return Err(format!(
                "{} \"{name}\" not found",
                resource.replacen("s.", ".", 1)
            ));
        };
        let mut rules: Vec<Value> = role["rules"].as_array().cloned().unwrap_or_default();
        for selector in role["aggregationRule"]["clusterRoleSelectors"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let selector = crate::api::selector::Selector::from_label_selector(selector);
            for (key, other) in self.store.list(resource, "") {
                if key.name != name && selector.matches(other) {
                    rules.extend(other["rules"].as_array().cloned().unwrap_or_default());
                }
            }
        }
        Ok(rules)
    }
}

fn forbidden(attributes: &Attributes, why: &str) -> ApiError {
    let resource = resource_name(&attributes.resource, &attributes.group);
    let kind = crate::api::kinds::Kind {
        group: attributes.group.clone(),
        version: String::new(),
        plural: attributes.resource.clone(),
        kind: String::new(),
        namespaced: true,
        status: false,
        scale: false,
        create_only: false,
        storage: std::sync::Arc::from(resource.as_str()),
        resource,
        custom: None,
    };
    ApiError::forbidden(&kind, &attributes.name, why)
}

fn granted(binding: &Value, kind: &str, subject: &str) -> Decision {
    let name = binding["metadata"]["name"].as_str().unwrap_or("");
    let place = binding["metadata"]["namespace"]
        .as_str()
        .map_or_else(String::new, |n| format!("/{n}"));
    let reason = format!(
        "RBAC: allowed by {kind} \"{name}{place}\" of {} \"{}\" to {subject}",
        binding["roleRef"]["kind"].as_str().unwrap_or(""),
        binding["roleRef"]["name"].as_str().unwrap_or(""),
    );
    Decision {
        allowed: true,
        reason,
    }
}

fn matching_subject(binding: &Value, user: &User, namespace: &str) -> Option<String> {
    binding["subjects"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|subject| {
            let name = subject["name"].as_str().unwrap_or("");
            match subject["kind"].as_str() {
                Some("User") if name == user.name => Some(format!("User {name:?}")),
                Some("Group") if user.groups.iter().any(|g| g == name) => Some(format!("Group {name:?}")),
                Some("ServiceAccount") => {
                    let home = subject["namespace"].as_str().unwrap_or(namespace);
                    (user.name == format!("system:serviceaccount:{home}:{name}"))
                        .then(|| format!("ServiceAccount \"{name}/{home}\""))
                }
                _ => None,
            }
        })
}

fn allows(rule: &Value, attributes: &Attributes) -> bool {
    let list = |field: &str| -> Vec<&str> {
        rule[field]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    };
    let has = |field: &str, wanted: &str| list(field).iter().any(|v| *v == "*" || *v == wanted);
    if !has("verbs", &attributes.verb) {
        return false;
    }
    if let Some(path) = &attributes.path {
        return list("nonResourceURLs").iter().any(|url| {
            *url == "*"
                || url == path
                || url
                    .strip_suffix('*')
                    .is_some_and(|prefix| path.starts_with(prefix))
        });
    }
    if !has("apiGroups", &attributes.group) {
        return false;
    }
    let full = attributes.full_resource();
    let resource = list("resources").iter().any(|r| {
        *r == "*"
            || *r == full
            || (!attributes.subresource.is_empty() && *r == format!("*/{}", attributes.subresource))
    });
    let names = list("resourceNames");
    resource && (names.is_empty() || names.contains(&attributes.name.as_str()))
}

/// The cluster roles that every cluster starts with, as far as this project's resources go.
pub(crate) fn bootstrap_roles() -> Vec<Value> {
    let view = rules(&["get", "list", "watch"]);
    let mut edit = view.clone();
    edit.extend(rules(&[
        "create",
        "delete",
        "deletecollection",
        "patch",
        "update",
    ]));
    edit.push(json!({"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]}));
    edit.push(json!({
        "apiGroups": [""], "resources": ["secrets"],
        "verbs": ["get", "list", "watch", "create", "delete", "deletecollection", "patch", "update"],
    }));
    edit.push(json!({"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}));
    let mut admin = edit.clone();
    admin.push(json!({
        "apiGroups": [GROUP], "resources": ["roles", "rolebindings"],
        "verbs": ["get", "list", "watch", "create", "delete", "deletecollection", "patch", "update"],
    }));
    admin.push(json!({
        "apiGroups": ["authorization.k8s.io"], "resources": ["localsubjectaccessreviews"], "verbs": ["create"],
    }));
    let cluster_admin = vec![
        json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}),
        json!({"nonResourceURLs": ["*"], "verbs": ["*"]}),
    ];
    let mut out = vec![json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {
            "name": "cluster-admin", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        },
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": GROUP, "kind": "Group", "name": "system:masters"}],
    })];
    for (name, rules) in [
        ("cluster-admin", cluster_admin),
        ("admin", admin),
        ("edit", edit),
        ("view", view),
    ] {
        let mut role = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRole",
            "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
            "rules": rules,
        });
        if name != "cluster-admin" {
            role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {
                format!("rbac.authorization.k8s.io/aggregate-to-{name}"): "true"
            }}]});
        }
        out.push(role);
    }
    out
}

/// What view may read and edit may write.
fn rules(verbs: &[&str]) -> Vec<Value> {
    let reading = verbs.contains(&"get");
    let mut core = vec![
        "configmaps",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "replicationcontrollers/scale",
        "serviceaccounts",
        "services",
    ];
    let mut apps = vec![
        "daemonsets",
        "deployments",
        "deployments/scale",
        "replicasets",
        "replicasets/scale",
        "statefulsets",
        "statefulsets/scale",
    ];
    let mut batch = vec!["cronjobs", "jobs"];
    let mut policy = vec!["poddisruptionbudgets"];
    let mut scaling = vec!["horizontalpodautoscalers"];
    let mut out = Vec::new();
    if reading {
        core.extend(["persistentvolumeclaims/status", "services/status", "endpoints"]);
        apps.extend([
            "daemonsets/status",
            "deployments/status",
            "replicasets/status",
            "statefulsets/status",
            "controllerrevisions",
        ]);
        batch.extend(["cronjobs/status", "jobs/status"]);
        policy.push("poddisruptionbudgets/status");
        scaling.push("horizontalpodautoscalers/status");
        out.push(json!({"apiGroups": [""], "verbs": verbs, "resources": [
            "bindings", "events", "limitranges", "namespaces/status", "pods/log", "pods/status",
            "replicationcontrollers/status", "resourcequotas", "resourcequotas/status", "namespaces",
        ]}));
        out.push(json!({"apiGroups": ["discovery.k8s.io"], "verbs": verbs, "resources": ["endpointslices"]}));
        out.push(json!({"apiGroups": ["events.k8s.io"], "verbs": verbs, "resources": ["events"]}));
    } else {
        core.extend([
            "pods/attach",
            "pods/exec",
            "pods/portforward",
            "pods/proxy",
            "services/proxy",
            "events",
        ]);
        apps.push("deployments/rollback");
        out.push(json!({
            "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        }));
    }
    let networking = ["ingresses", "networkpolicies"];
    out.extend([
        json!({"apiGroups": [""], "resources": core, "verbs": verbs}),
        json!({"apiGroups": ["apps"], "resources": apps, "verbs": verbs}),
        json!({"apiGroups": ["batch"], "resources": batch, "verbs": verbs}),
        json!({"apiGroups": ["policy"], "resources": policy, "verbs": verbs}),
        json!({"apiGroups": ["autoscaling"], "resources": scaling, "verbs": verbs}),
        json!({"apiGroups": ["networking.k8s.io"], "resources": networking, "verbs": verbs}),
    ]);
    out
}
