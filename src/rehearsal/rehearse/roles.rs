//! The Roles that a workflow lacks, from the words that name its missing rights, as YAML to paste.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Where rights hold: a namespace, or none for the whole cluster.
type Place = Option<String>;
/// API group, resource and name; the name may be empty.
type Of = (String, String, String);

/// A Role or ClusterRole for each place, with its binding; none where the words name no rights.
pub(super) fn to_paste(message: &str) -> Option<String> {
    let (account, rights) = message.split_once("ServiceAccount ")?.1.split_once(" may not ")?;
    let (namespace, account) = account.split_once('/')?;
    let rights = rights.split_once("; grant").map_or(rights, |(rights, _)| rights);
    let mut places: BTreeMap<Place, BTreeMap<Of, Vec<String>>> = BTreeMap::new();
    for right in rights.split("; nor ") {
        let (place, of, verb) = parse(right)?;
        let verbs = places.entry(place).or_default().entry(of).or_default();
        if !verbs.contains(&verb) {
            verbs.push(verb);
        }
    }
    let mut text = String::new();
    for (place, rules) in places {
        let (kind, metadata) = match &place {
            Some(place) => ("Role", format!("{{name: {account}-steps, namespace: {place}}}")),
            None => ("ClusterRole", format!("{{name: {account}-steps}}")),
        };
        let _ = writeln!(
            text,
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {metadata}\nrules:"
        );
        for ((group, resource, name), verbs) in rules {
            let names = if name.is_empty() {
                String::new()
            } else {
                format!(", resourceNames: [{name}]")
            };
            let _ = writeln!(
                text,
                "- {{apiGroups: [{group:?}], resources: [{resource}]{names}, verbs: [{}]}}",
                verbs.join(", ")
            );
        }
        let _ = writeln!(
            text,
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}Binding\nmetadata: {metadata}\nroleRef: {{apiGroup: \
             rbac.authorization.k8s.io, kind: {kind}, name: {account}-steps}}\nsubjects:\n- {{kind: ServiceAccount, name: \
             {account}, namespace: {namespace}}}\n---"
        );
    }
    Some(text.trim_end_matches("---\n").to_owned())
}

/// One right in the controller's words, such as `patch deployments/scale in group apps named web in namespace shop`.
fn parse(right: &str) -> Option<(Place, Of, String)> {
    let mut words = right.split_whitespace();
    let verb = words.next()?.to_owned();
    let resource = words.next()?.trim_end_matches([',', ';', '.']).to_owned();
    let (mut group, mut name, mut place) = (String::new(), String::new(), None);
    while let Some(word) = words.next() {
        let value = |word: Option<&str>| Some(word?.trim_end_matches([',', ';', '.']).to_owned());
        match (word, words.clone().next()) {
            ("in", Some("group")) => {
                words.next();
                group = value(words.next())?;
            }
            ("in", Some("namespace")) => {
                words.next();
                place = Some(value(words.next())?);
            }
            ("named", _) => name = value(words.next())?,
            // `in all namespaces`, or what is said besides.
            _ => {}
        }
    }
    Some((place, (group, resource, name), verb))
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
            "kind: ClusterRole\nmetadata: {name: default-steps}\nrules:\n- {apiGroups: [\"\"], resources: [pods], verbs: [list]}\n---\n",
            "kind: Role\nmetadata: {name: default-steps, namespace: shop}\nrules:\n- {apiGroups: [\"apps\"], resources: [deployments], \
             resourceNames: [web], verbs: [get, patch]}\n---\n",
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
}
