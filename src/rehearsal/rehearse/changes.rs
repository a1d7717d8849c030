//! What a rehearsal changed: the objects of the world before and after, as a diff of the lines that count.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use console::Style;
use kubernaut_crds::names::LAST_APPLIED;
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

/// What controllers make and count, and what the run itself is made of.
const NOT_THE_WORLD: [&str; 12] = [
    "Pod",
    "ReplicaSet",
    "ControllerRevision",
    "Event",
    "Endpoints",
    "EndpointSlice",
    "Lease",
    "Job",
    "Namespace",
    "WorkflowExecution",
    "KubernetesExecution",
    "CustomResourceDefinition",
];

/// Metadata that the server keeps.
const OF_THE_SERVER: [&str; 6] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "selfLink",
];

/// Counts rollouts, and says nothing that the template does not.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The taint that a cordoned node has.
const CORDONED: &str = "node.kubernetes.io/unschedulable";

/// The name of a longer item is not looked for.
const ITEM_MAX: usize = 200;

/// Kind, namespace and name.
pub(crate) type Key = (String, String, String);

/// The changes between two states of one cluster, each a few lines; empty when there are none. Namespaces of kubernaut's
/// own, named here, are passed over.
pub(crate) fn changes(before: &[Arc<Value>], after: &[Arc<Value>], own: &[&str]) -> String {
    let world = |objects| world_of(<[Arc<Value>]>::iter(objects).map(AsRef::as_ref), own);
    let (old, new) = (world(before), world(after));
    let keys: BTreeSet<&Key> = old.keys().chain(new.keys()).collect();
    let mut text = String::new();
    for key in keys {
        text.push_str(&change(old.get(key).copied(), new.get(key).copied()));
    }
    text.push_str(&pods(before, after, own));
    text
}

/// What became of one object, in a few lines; empty where nothing did.
pub(crate) fn change(old: Option<&Value>, new: Option<&Value>) -> String {
    let (shown_old, shown_new) = shown(old, new);
    if shown_old == shown_new {
        return String::new();
    }
    let how = match (old, new) {
        (None, _) => ": created",
        (_, None) => ": deleted",
        (Some(_), Some(_)) => "",
    };
    let key = new.or(old).map(key_of).unwrap_or_default();
    format!("{}{how}\n{}", title(&key), lines(&shown_old, &shown_new))
}

/// Changes that stand behind so many spaces, for a person, in colours where standard output has them. What is printed was made
/// harmless for the terminal before.
pub(crate) fn coloured(text: &str, indent: usize) -> String {
    painted(text, indent, console::colors_enabled())
}

fn painted(text: &str, indent: usize, colours: bool) -> String {
    let style = || Style::new().force_styling(colours);
    let (gone, come) = (style().red(), style().green());
    let lines = text.split_inclusive('\n').map(|line| {
        let (words, end) = line.strip_suffix('\n').map_or((line, ""), |words| (words, "\n"));
        match words.get(indent..) {
            Some(change) if change.starts_with("  - ") => format!("{}{end}", gone.apply_to(words)),
            Some(change) if change.starts_with("  + ") => format!("{}{end}", come.apply_to(words)),
            Some(_) | None => line.to_owned(),
        }
    });
    lines.collect()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn key_of(object: &Value) -> Key {
    let metadata = &object["metadata"];
    (
        word(&object["kind"]),
        word(&metadata["namespace"]),
        word(&metadata["name"]),
    )
}

/// As a person knows it, such as `Deployment shop/web`.
pub(crate) fn title((kind, namespace, name): &Key) -> String {
    if namespace.is_empty() {
        format!("{kind} {name}")
    } else {
        format!("{kind} {namespace}/{name}")
    }
}

/// The objects that a workflow may act on: nothing that controllers make, nor what the run itself is made of.
pub(crate) fn world_of<'a>(
    objects: impl IntoIterator<Item = &'a Value>,
    own: &[&str],
) -> BTreeMap<Key, &'a Value> {
    objects
        .into_iter()
        .map(|object| (key_of(object), object))
        .filter(|((kind, namespace, _), _)| {
            !NOT_THE_WORLD.contains(&kind.as_str()) && !own.contains(&namespace.as_str())
        })
        .collect()
}

/// Both states as text, without what the server keeps. Of a Secret's values it is told only whether they changed.
fn shown(old: Option<&Value>, new: Option<&Value>) -> (String, String) {
    let mut old = old.map(plain);
    let mut new = new.map(plain);
    let is_secret = |object: &Option<Value>| object.as_ref().is_some_and(|object| object["kind"] == "Secret");
    if is_secret(&old) || is_secret(&new) {
        for field in ["data", "stringData"] {
            let before = old
                .as_ref()
                .map(|object| object[field].clone())
                .unwrap_or_default();
            for (object, is_new) in [(&mut old, false), (&mut new, true)] {
                let values = object
                    .as_mut()
                    .and_then(|object| object.get_mut(field))
                    .and_then(Value::as_object_mut);
                for (key, value) in values.into_iter().flatten() {
                    let changed = is_new && before.get(key).is_some_and(|before| before != value);
                    *value = json!(if changed {
                        "<masked, another value>"
                    } else {
                        "<masked>"
                    });
                }
            }
        }
    }
    let text = |object: Option<Value>| {
        object.map_or_else(String::new, |object| {
            serde_saphyr::to_string(&object).unwrap_or_default()
        })
    };
    (text(old), text(new))
}

fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(taints) = object.pointer_mut("/spec/taints").and_then(Value::as_array_mut) {
        // It follows from the cordon.
        taints.retain(|taint| taint["key"] != CORDONED);
        if let (true, Some(spec)) = (taints.is_empty(), object["spec"].as_object_mut()) {
            spec.remove("taints");
        }
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| !OF_THE_SERVER.contains(&field.as_str()));
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| key != REVISION && key != LAST_APPLIED);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
        // An update of a node leaves an empty spec.
        map.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    }
    object
}

/// The lines that differ, below those that say where they stand.
fn lines(old: &str, new: &str) -> String {
    let diff = TextDiff::from_lines(old, new);
    let all: Vec<(ChangeTag, &str)> = diff
        .iter_all_changes()
        .map(|change| (change.tag(), change.value().trim_end()))
        .collect();
    let mut kept = BTreeSet::new();
    for (index, (tag, line)) in all.iter().enumerate() {
        if *tag == ChangeTag::Equal {
            continue;
        }
        kept.insert(index);
        let mut depth = depth(line);
        for (above, (of, line)) in all.iter().enumerate().take(index).rev() {
            let here = self::depth(line);
            if here <= depth && of == tag && kept.contains(&above) {
                // What it stands below is kept already.
                break;
            }
            if here < depth && (*of == ChangeTag::Equal || of == tag) {
                kept.insert(above);
                depth = here;
            }
        }
        kept.extend(name_beside(&all, index));
    }
    kept.into_iter()
        .filter_map(|index| all.get(index))
        .fold(String::new(), |mut text, (tag, line)| {
            let _ = match tag {
                ChangeTag::Equal => writeln!(text, "    {line}"),
                ChangeTag::Delete => writeln!(text, "  - {line}"),
                ChangeTag::Insert => writeln!(text, "  + {line}"),
            };
            text
        })
}

/// How deep a line stands; an item of a list as deep as its own fields.
fn depth(line: &str) -> usize {
    let bare = line.trim_start();
    let dashes = bare.strip_prefix("- ").map_or(0, |_| 2);
    line.len() - bare.len() + dashes
}

/// The name of the list item that a changed line belongs to: a container is known by it.
fn name_beside(all: &[(ChangeTag, &str)], index: usize) -> Option<usize> {
    let own = depth(all.get(index)?.1);
    let is_name = |line: &str| line.trim_start().trim_start_matches("- ").starts_with("name: ");
    let begins = |line: &str| line.trim_start().starts_with("- ") && depth(line) == own;
    let first = (0..=index)
        .rev()
        .take(ITEM_MAX)
        .take_while(|at| all.get(*at).is_some_and(|(_, line)| depth(line) >= own))
        .find(|at| all.get(*at).is_some_and(|(_, line)| begins(line)))?;
    (first..all.len())
        .take(ITEM_MAX)
        .take_while(|at| {
            all.get(*at)
                .is_some_and(|(_, line)| depth(line) >= own && (*at <= index || !begins(line)))
        })
        .find(|at| {
            all.get(*at)
                .is_some_and(|(_, line)| depth(line) == own && is_name(line))
        })
}

/// Pods come and go with their owners: they are counted.
fn pods(before: &[Arc<Value>], after: &[Arc<Value>], own: &[&str]) -> String {
    let owners: BTreeMap<String, Key> = before
        .iter()
        .chain(after)
        .filter(|object| object["kind"] == "ReplicaSet")
        .filter_map(|set| Some((word(&set["metadata"]["uid"]), controller(set)?)))
        .collect();
    let pods_of = |objects: &[Arc<Value>]| -> BTreeMap<String, Key> {
        objects
            .iter()
            .filter(|object| object["kind"] == "Pod")
            .filter(|pod| !own.contains(&word(&pod["metadata"]["namespace"]).as_str()))
            .map(|pod| {
                let uid = pod["metadata"]["ownerReferences"][0]["uid"]
                    .as_str()
                    .unwrap_or_default();
                let owner = owners.get(uid).cloned().or_else(|| controller(pod));
                (
                    word(&pod["metadata"]["uid"]),
                    owner.unwrap_or_else(|| key_of(pod)),
                )
            })
            .collect()
    };
    let (old, new) = (pods_of(before), pods_of(after));
    let mut counts: BTreeMap<&Key, (usize, usize)> = BTreeMap::new();
    for (uid, owner) in &old {
        counts.entry(owner).or_default().0 += usize::from(!new.contains_key(uid));
    }
    for (uid, owner) in &new {
        counts.entry(owner).or_default().1 += usize::from(!old.contains_key(uid));
    }
    let mut text = String::new();
    for (owner, (gone, come)) in counts {
        let replaced = gone.min(come);
        let words = match (owner.0.as_str(), gone, come) {
            (_, 0, 0) => continue,
            ("Pod", 0, _) => "created".to_owned(),
            ("Pod", ..) => "deleted".to_owned(),
            _ => {
                let counted = [
                    (replaced, "replaced"),
                    (come - replaced, "added"),
                    (gone - replaced, "gone"),
                ];
                let words = counted.iter().filter(|(count, _)| *count > 0);
                let pods = |count| if count == 1 { "pod" } else { "pods" };
                let words = words.map(|(count, what)| format!("{count} {} {what}", pods(*count)));
                words.collect::<Vec<_>>().join(", ")
            }
        };
        let _ = writeln!(text, "{}: {words}", title(owner));
    }
    text
}

fn controller(object: &Value) -> Option<Key> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    Some((
        word(&owner["kind"]),
        word(&object["metadata"]["namespace"]),
        word(&owner["name"]),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_and_what_has_come_is_coloured_and_nothing_else() {
        let text = "a\n      - old\n      + new\n        - item\n";
        assert_eq!(painted(text, 4, false), text);
        assert_eq!(
            painted(text, 4, true),
            "a\n\u{1b}[31m      - old\u{1b}[0m\n\u{1b}[32m      + new\u{1b}[0m\n        - item\n"
        );
    }

    #[test]
    fn that_the_value_of_a_secret_changes_is_told_and_the_value_is_not() {
        let secret = |value: &str| {
            json!({"kind": "Secret", "metadata": {"namespace": "shop", "name": "keys"},
                   "data": {"password": value}})
        };
        let (old, new) = (secret("b2xk"), secret("bmV3"));
        let told = change(Some(&old), Some(&new));
        assert!(
            told.starts_with("Secret shop/keys\n") && told.contains("<masked, another value>"),
            "{told}"
        );
        assert!(!told.contains("b2xk") && !told.contains("bmV3"), "{told}");
    }
}
