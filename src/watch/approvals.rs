//! What approvals depend on, as the watches show it: Approvals, what namespaces ask for, and the policy that makes Approvals true.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kubernaut_actors::Change;
use kubernaut_crds::{Approval, names};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kept::Kept;
use super::store::Tables;
use super::table::Table;
use crate::guard::Decode;
use crate::metadata::Metadata;

const ADMISSION_GROUP: &str = "admissionregistration.k8s.io";

#[derive(Deserialize)]
struct ApprovalAsRead {
    metadata: Metadata,
    spec: kubernaut_crds::ApprovalSpec,
}

impl Decode for Approval {
    fn decode(text: &str) -> serde_json::Result<Self> {
        let read: ApprovalAsRead = serde_json::from_str(text)?;
        let mut metadata = ObjectMeta::from(read.metadata);
        metadata.labels = None;
        metadata.annotations = None;
        metadata.owner_references = None;
        metadata.finalizers = None;
        Ok(Self {
            metadata,
            spec: read.spec,
        })
    }
}

impl Kept for Approval {
    const WATCH: &'static str = "watch of Approvals";
    const KIND: &'static str = names::APPROVAL_KIND;
    const API_VERSION: &'static str = names::WORKFLOW_API_VERSION;

    fn table(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.approvals
    }

    /// What it speaks of.
    fn owner(&self) -> Option<&str> {
        Some(&self.spec.object_ref.uid)
    }

    fn change(_: &str, owner: Option<&str>) -> Option<Change> {
        owner.map(|uid| Change::Approval(uid.to_owned()))
    }
}

#[derive(Deserialize)]
struct NamespaceAsRead {
    metadata: Metadata,
}

/// Of a namespace only what it asks for is kept.
impl Decode for Namespace {
    fn decode(text: &str) -> serde_json::Result<Self> {
        let read: NamespaceAsRead = serde_json::from_str(text)?;
        let mut metadata = ObjectMeta::from(read.metadata);
        metadata.annotations = None;
        metadata.finalizers = None;
        metadata.owner_references = None;
        if let Some(labels) = &mut metadata.labels {
            labels.retain(|key, _| key == names::LABEL_APPROVAL);
        }
        Ok(Self {
            metadata,
            spec: None,
            status: None,
        })
    }
}

pub(super) fn requires_approval(namespace: &Namespace) -> bool {
    let labels = namespace.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(names::LABEL_APPROVAL))
        .is_some_and(|value| value == names::APPROVAL_REQUIRED)
}

impl Kept for Namespace {
    const WATCH: &'static str = "watch of namespaces";
    const KIND: &'static str = "Namespace";
    const API_VERSION: &'static str = "v1";

    const COMPARED: bool = true;

    fn table(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.namespaces
    }

    /// Its name: by that it is asked for.
    fn owner(&self) -> Option<&str> {
        self.metadata.name.as_deref()
    }

    fn change(_: &str, owner: Option<&str>) -> Option<Change> {
        owner.map(|name| Change::Namespace(name.to_owned()))
    }

    fn says_the_same(&self, before: Option<&Self>) -> bool {
        before.is_some_and(|before| requires_approval(before) == requires_approval(self))
    }
}

/// A ValidatingAdmissionPolicy or its binding, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Admission<const BINDING: bool> {
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Value,
}

pub(super) type AdmissionPolicy = Admission<false>;
pub(super) type AdmissionBinding = Admission<true>;

impl<const BINDING: bool> Decode for Admission<BINDING> {
    fn decode(text: &str) -> serde_json::Result<Self> {
        let mut read: Self = serde_json::from_str(text)?;
        read.metadata = ObjectMeta {
            name: read.metadata.name,
            uid: read.metadata.uid,
            resource_version: read.metadata.resource_version,
            generation: read.metadata.generation,
            creation_timestamp: read.metadata.creation_timestamp,
            deletion_timestamp: read.metadata.deletion_timestamp,
            ..ObjectMeta::default()
        };
        Ok(read)
    }
}

impl<const BINDING: bool> Resource for Admission<BINDING> {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        let kind = if BINDING {
            "ValidatingAdmissionPolicyBinding"
        } else {
            "ValidatingAdmissionPolicy"
        };
        kind.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        ADMISSION_GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        let plural = if BINDING {
            "validatingadmissionpolicybindings"
        } else {
            "validatingadmissionpolicies"
        };
        plural.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

macro_rules! kept_of_admission {
    ($kind:ty, $table:ident, $watch:literal, $name:literal) => {
        impl Kept for $kind {
            const WATCH: &'static str = $watch;
            const KIND: &'static str = $name;
            const API_VERSION: &'static str = "admissionregistration.k8s.io/v1";

            fn table(tables: &mut Tables) -> &mut Table<Self> {
                &mut tables.$table
            }

            fn owner(&self) -> Option<&str> {
                None
            }

            fn change(_: &str, _: Option<&str>) -> Option<Change> {
                Some(Change::ApprovalsGuard)
            }
        }
    };
}

kept_of_admission!(
    AdmissionPolicy,
    policies,
    "watch of the policy for Approvals",
    "ValidatingAdmissionPolicy"
);
kept_of_admission!(
    AdmissionBinding,
    bindings,
    "watch of the binding of the policy for Approvals",
    "ValidatingAdmissionPolicyBinding"
);

/// API servers take a policy up a moment after it was stored, each by itself: until then they let everything in.
pub(super) const SETTLES: Duration = Duration::from_secs(10);

/// When one of the two was last seen to change, and how it was then.
#[derive(Debug, Default)]
pub(super) struct LastSeen {
    seen: Option<(String, Option<i64>)>,
    changed: Option<Timestamp>,
}

impl LastSeen {
    /// One that was seen before, and is another one by now, has changed now.
    pub(super) fn note(&mut self, metadata: &ObjectMeta, now: Timestamp) {
        let this = (metadata.uid.clone().unwrap_or_default(), metadata.generation);
        if self.seen.as_ref().is_some_and(|seen| *seen != this) {
            self.changed = Some(now);
        }
        self.seen = Some(this);
    }

    /// It is gone: what comes in its place is another one.
    pub(super) fn gone(&mut self, now: Timestamp) {
        self.changed = Some(now);
    }
}

/// Since when what was found stands as it was rendered.
///
/// # Errors
/// Why it does not, in words.
pub(super) fn standing<const BINDING: bool>(
    found: Option<&Admission<BINDING>>,
    expected: &Value,
    last: &LastSeen,
) -> Result<Timestamp, String> {
    let kind = Admission::<BINDING>::kind(&());
    let name = names::APPROVALS_POLICY;
    let Some(found) = found else {
        return Err(format!("{kind} {name} does not exist: install deploy/base"));
    };
    if found.metadata.deletion_timestamp.is_some() {
        return Err(format!("{kind} {name} is being deleted: install deploy/base"));
    }
    if without_defaults(&found.spec) != without_defaults(expected) {
        return Err(format!(
            "{kind} {name} is not what this version of kubernaut installs: install deploy/base"
        ));
    }
    let created = found.metadata.creation_timestamp.as_ref();
    let Some(Time(created)) = created else {
        return Err(format!("nobody knows since when {kind} {name} exists"));
    };
    Ok(last.changed.map_or(*created, |changed| changed.max(*created)))
}

/// A spec without what the API server fills in: it means the same, and is not rendered.
fn without_defaults(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(matches) = spec.get_mut("matchConstraints").and_then(Value::as_object_mut) {
        matches.retain(|key, value| {
            let is_default = match key.as_str() {
                "matchPolicy" => value == "Equivalent",
                "namespaceSelector" | "objectSelector" => {
                    value.as_object().is_some_and(serde_json::Map::is_empty)
                }
                _ => false,
            };
            !is_default
        });
        let rules = matches.get_mut("resourceRules").and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten().filter_map(Value::as_object_mut) {
            rule.retain(|key, value| key != "scope" || value != "*");
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(spec: &Value, generation: i64) -> AdmissionPolicy {
        let metadata = json!({"name": "kubernaut-approvals", "uid": "u", "generation": generation,
                              "creationTimestamp": "2026-01-01T00:00:00Z"});
        let text = json!({"metadata": metadata, "spec": spec}).to_string();
        Decode::decode(&text).expect("a policy")
    }

    fn rendered() -> Value {
        json!({"failurePolicy": "Fail", "validations": [{"expression": "a"}],
               "matchConstraints": {"resourceRules": [{"resources": ["approvals"], "operations": ["CREATE"]}]}})
    }

    #[test]
    fn what_the_api_server_fills_in_is_no_difference_and_all_else_is() {
        let last = LastSeen::default();
        let filled = json!({"failurePolicy": "Fail", "validations": [{"expression": "a"}],
            "matchConstraints": {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
                "resourceRules": [{"resources": ["approvals"], "operations": ["CREATE"], "scope": "*"}]}});
        let created: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(
            standing(Some(&found(&filled, 1)), &rendered(), &last),
            Ok(created)
        );
        for (path, weaker) in [
            ("/failurePolicy", json!("Ignore")),
            ("/validations/0/expression", json!("true")),
            (
                "/matchConstraints/objectSelector",
                json!({"matchLabels": {"a": "b"}}),
            ),
            (
                "/matchConstraints/namespaceSelector",
                json!({"matchLabels": {"a": "b"}}),
            ),
            ("/matchConstraints/matchPolicy", json!("Exact")),
            ("/matchConstraints/resourceRules/0/scope", json!("Cluster")),
            ("/matchConstraints/resourceRules/0/operations", json!(["UPDATE"])),
        ] {
            let mut spec = filled.clone();
            *spec.pointer_mut(path).expect(path) = weaker;
            let why = standing(Some(&found(&spec, 1)), &rendered(), &last).expect_err(path);
            assert!(why.contains("is not what this version"), "{path}: {why}");
        }
        for (key, more) in [
            (
                "matchConditions",
                json!([{"name": "never", "expression": "false"}]),
            ),
            ("paramKind", json!({"kind": "ConfigMap"})),
        ] {
            let mut spec = filled.clone();
            spec[key] = more;
            standing(Some(&found(&spec, 1)), &rendered(), &last).expect_err(key);
        }
        let why = standing::<false>(None, &rendered(), &last).expect_err("none");
        assert!(why.contains("does not exist"), "{why}");
    }

    #[test]
    fn one_that_was_changed_and_changed_back_stands_since_then() {
        let time = |second| Timestamp::from_second(second).expect("a time");
        let mut last = LastSeen::default();
        last.note(&found(&rendered(), 1).metadata, time(1_800_000_000));
        last.note(&found(&rendered(), 1).metadata, time(1_800_000_001));
        let created: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let stands = |last: &LastSeen| standing(Some(&found(&rendered(), 3)), &rendered(), last);
        assert_eq!(stands(&last), Ok(created));
        last.note(&found(&rendered(), 3).metadata, time(1_800_000_002));
        assert_eq!(stands(&last), Ok(time(1_800_000_002)));
        last.gone(time(1_800_000_005));
        assert_eq!(stands(&last), Ok(time(1_800_000_005)));
    }
}
