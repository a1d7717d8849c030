//! Rights: what the account of an action may do, and what a workflow's account must be allowed.

use std::fmt;

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::TargetRef;

/// One right, as a SubjectAccessReview asks for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessRequest {
    /// API group; empty for the core one.
    pub group: String,
    /// Resource in the plural.
    pub resource: String,
    /// Subresource, such as `scale`.
    pub subresource: Option<String>,
    /// Verb.
    pub verb: String,
    /// Namespace; `None` asks for all of them, or for a cluster-wide resource.
    pub namespace: Option<String>,
    /// Name; `None` asks for all.
    pub name: Option<String>,
}

impl fmt::Display for AccessRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(subresource) = &self.subresource {
            write!(f, "/{subresource}")?;
        }
        if !self.group.is_empty() {
            write!(f, " in group {}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, " named {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None if self.name.is_none() => write!(f, " in all namespaces"),
            None => Ok(()),
        }
    }
}

/// How far a right is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// On the target alone.
    Target,
    /// On every object in the target's namespace.
    Namespace,
    /// Everywhere.
    Cluster,
}

/// A rule of a ClusterRole for one resource, such as `deployments/scale`.
pub(super) fn rule(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

/// Rules asked as a workflow's account must be allowed them. `reach` is given group, resource and subresource; what it has no
/// reach for is not asked.
pub(super) fn requests(
    rules: &[PolicyRule],
    target: &TargetRef,
    reach: impl Fn(&str, &str, Option<&str>) -> Option<Reach>,
) -> Vec<AccessRequest> {
    let first = |list: &Option<Vec<String>>| list.iter().flatten().next().cloned().unwrap_or_default();
    let mut requests = Vec::new();
    for rule in rules {
        let (group, full) = (first(&rule.api_groups), first(&rule.resources));
        let (resource, subresource) = match full.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (full.as_str(), None),
        };
        let Some(reach) = reach(&group, resource, subresource) else {
            continue;
        };
        requests.extend(rule.verbs.iter().map(|verb| {
            // What is created has no name to ask about yet.
            let named = reach == Reach::Target && (verb != "create" || subresource.is_some());
            AccessRequest {
                group: group.clone(),
                resource: resource.to_owned(),
                subresource: subresource.map(str::to_owned),
                verb: verb.clone(),
                namespace: target.namespace.clone().filter(|_| reach != Reach::Cluster),
                name: named.then(|| target.name.clone()),
            }
        }));
    }
    requests
}
