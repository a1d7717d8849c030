//! Rights as Roles with their bindings, to read and to apply.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use kubernaut_actors::ports::Account;
use kubernaut_machines::actions::AccessRequest;

use crate::yaml::scalar;

/// API group, resource with its subresource, and name; the name may be empty.
type Of = (String, String, String);

/// A Role or ClusterRole for each namespace, with its binding to the account, as documents of YAML.
pub(crate) fn as_yaml<'a>(account: &Account, rights: impl IntoIterator<Item = &'a AccessRequest>) -> String {
    let mut places: BTreeMap<Option<String>, BTreeMap<Of, BTreeSet<String>>> = BTreeMap::new();
    for right in rights {
        let resource = match &right.subresource {
            Some(subresource) => format!("{}/{subresource}", right.resource),
            None => right.resource.clone(),
        };
        let object = (
            right.group.clone(),
            resource,
            right.name.clone().unwrap_or_default(),
        );
        let place = places.entry(right.namespace.clone()).or_default();
        place.entry(object).or_default().insert(right.verb.clone());
    }
    let Account { namespace, name } = account;
    let (quoted_namespace, quoted_name) = (scalar(namespace), scalar(name));
    let documents = places.iter().map(|(place, rules)| {
        // Accounts of several namespaces may act in one; with hyphens two of them could make one name.
        let role = format!("kubernaut:{namespace}:{name}");
        let (kind, metadata) = match place {
            Some(place) => ("Role", format!("{{name: {}, namespace: {}}}", scalar(&role), scalar(place))),
            None => ("ClusterRole", format!("{{name: {}}}", scalar(&role))),
        };
        let mut text = format!("apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {metadata}\nrules:\n");
        for ((group, resource, of_name), verbs) in rules {
            let names = if of_name.is_empty() {
                String::new()
            } else {
                format!(", resourceNames: [{of_name:?}]")
            };
            let verbs: Vec<&str> = verbs.iter().map(String::as_str).collect();
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "- {{apiGroups: [{group:?}], resources: [{resource}]{names}, verbs: [{}]}}",
                verbs.join(", ")
            );
        }
        let _ = write!(
            text,
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}Binding\nmetadata: {metadata}\nroleRef: {{apiGroup: \
             rbac.authorization.k8s.io, kind: {kind}, name: {}}}\nsubjects:\n- {{kind: ServiceAccount, name: {quoted_name}, \
             namespace: {quoted_namespace}}}\n",
            scalar(&role)
        );
        text
    });
    documents.collect::<Vec<_>>().join("---\n")
}

/// The Roles that the controller's words ask for; none where they name no missing rights.
pub(crate) fn to_paste(message: &str) -> Option<String> {
    let (account, rights) = missing(message)?;
    Some(as_yaml(&account, &rights))
}

/// The account and the rights that the controller's words say it lacks.
fn missing(message: &str) -> Option<(Account, Vec<AccessRequest>)> {
    let (account, rights) = message.split_once("ServiceAccount ")?.1.split_once(" may not ")?;
    let (namespace, name) = account.split_once('/')?;
    let rights = rights.split_once("; grant").map_or(rights, |(rights, _)| rights);
    let account = Account {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let rights: Option<Vec<AccessRequest>> = rights.split("; nor ").map(parse).collect();
    Some((account, rights?))
}

/// One right in the controller's words, such as `patch deployments/scale in group apps named web in namespace shop`.
fn parse(right: &str) -> Option<AccessRequest> {
    let mut words = right.split_whitespace();
    let plain = |word: &str| word.trim_end_matches([',', ';', '.']).to_owned();
    let verb = words.next()?.to_owned();
    let full = plain(words.next()?);
    let (resource, subresource) = match full.split_once('/') {
        Some((resource, subresource)) => (resource.to_owned(), Some(subresource.to_owned())),
        None => (full, None),
    };
    let mut request = AccessRequest {
        group: String::new(),
        resource,
        subresource,
        verb,
        namespace: None,
        name: None,
    };
    while let Some(word) = words.next() {
        match (word, words.clone().next()) {
            ("in", Some("group")) => {
                words.next();
                request.group = plain(words.next()?);
            }
            ("in", Some("namespace")) => {
                words.next();
                request.namespace = Some(plain(words.next()?));
            }
            ("named", _) => request.name = Some(plain(words.next()?)),
            // `in all namespaces`, or what is said besides.
            _ => {}
        }
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_that_are_missing_become_roles_that_grant_them() {
        let said = "ServiceAccount shop/default may not get deployments in group apps named web in namespace shop; nor patch \
            deployments in group apps named web in namespace shop; nor list pods in all namespaces; grant it with a Role";
        let roles = to_paste(said).expect("roles");
        for words in [
            "kind: ClusterRole\nmetadata: {name: \"kubernaut:shop:default\"}\nrules:\n- {apiGroups: [\"\"], resources: [pods], verbs: [list]}\n---\n",
            "kind: Role\nmetadata: {name: \"kubernaut:shop:default\", namespace: shop}\nrules:\n- {apiGroups: [\"apps\"], resources: [deployments], \
             resourceNames: [\"web\"], verbs: [get, patch]}\n---\n",
            "- {kind: ServiceAccount, name: default, namespace: shop}",
        ] {
            assert!(roles.contains(words), "{words}\n{roles}");
        }
        for document in roles.split("---\n") {
            let parsed: Result<serde_json::Value, _> = serde_saphyr::from_str(document);
            assert!(
                parsed.is_ok_and(|parsed| parsed["kind"].is_string()),
                "{document}"
            );
        }
        assert_eq!(to_paste("deployment/shop/web does not exist"), None);
    }

    #[test]
    fn names_that_yaml_would_not_read_as_text_are_quoted() {
        for name in ["123", "1e3", "on", "null"] {
            let said = format!("ServiceAccount {name}/{name} may not get pods in namespace {name}; grant it");
            let roles = to_paste(&said).expect("roles");
            for document in roles.split("---\n") {
                let parsed: serde_json::Value = serde_saphyr::from_str(document).expect("YAML");
                assert_eq!(parsed["metadata"]["namespace"], name, "{document}");
                if parsed["kind"] == "RoleBinding" {
                    assert_eq!(parsed["subjects"][0]["name"], name, "{document}");
                }
            }
        }
    }

    #[test]
    fn a_right_is_read_as_it_is_written() {
        let request =
            |subresource: Option<&str>, namespace: Option<&str>, name: Option<&str>| AccessRequest {
                group: "apps".to_owned(),
                resource: "deployments".to_owned(),
                subresource: subresource.map(str::to_owned),
                verb: "patch".to_owned(),
                namespace: namespace.map(str::to_owned),
                name: name.map(str::to_owned),
            };
        for right in [
            request(Some("scale"), Some("shop"), Some("web")),
            request(None, Some("shop"), None),
            request(None, None, None),
            request(None, None, Some("node-1")),
        ] {
            assert_eq!(parse(&right.to_string()), Some(right));
        }
    }
}
