//! The patch of an update-image: the images of containers by their names, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use kubernaut_crds::{PatchDeployment, PatchType};
use serde::Deserialize;
use serde_json::{Value, json};

/// Patches with any other field, with a field twice, or with a field spelled in another case do not parse.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImagePatch {
    spec: DeploymentSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeploymentSpec {
    template: Template,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    spec: PodSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Container {
    name: String,
    image: String,
}

/// The containers of such a patch, and the images that they get.
///
/// # Errors
/// Why it is not such a patch.
pub(crate) fn patched_images(patch: &PatchDeployment) -> Result<Vec<(String, String)>, String> {
    if patch.patch_type != PatchType::Strategic {
        return Err(
            "its patchType must be strategic: another one replaces the list of containers".to_owned(),
        );
    }
    let parsed: ImagePatch = serde_json::from_str(&patch.patch).map_err(|error| error.to_string())?;
    let pod = parsed.spec.template.spec;
    let containers = pod.containers.into_iter().chain(pod.init_containers);
    let images: Vec<(String, String)> = containers
        .map(|container| (container.name, container.image))
        .collect();
    if images.is_empty() {
        return Err("it names no container".to_owned());
    }
    let mut names = BTreeSet::new();
    match images.iter().find(|(name, _)| !names.insert(name)) {
        Some((name, _)) => Err(format!("it names container {name} twice")),
        None => Ok(images),
    }
}

/// The image of a container of a Deployment, and whether it is an init container (a native sidecar is one, too).
pub(crate) fn image_of<'a>(deployment: &'a Value, container: &str) -> Option<(&'a str, bool)> {
    let pod = deployment.pointer("/spec/template/spec")?;
    [("containers", false), ("initContainers", true)]
        .into_iter()
        .find_map(|(list, is_init)| {
            let listed = pod[list].as_array()?;
            let found = listed.iter().find(|known| known["name"] == container)?;
            Some((found["image"].as_str()?, is_init))
        })
}

/// The patch that is sent: each image where its container stands.
pub(crate) fn patch_text(images: &[(String, String)], init_containers: &[String]) -> String {
    let mut lists: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (name, image) in images {
        let is_init = init_containers.contains(name);
        let list = if is_init { "initContainers" } else { "containers" };
        let entry = json!({"name": name, "image": image});
        lists.entry(list).or_default().push(entry);
    }
    json!({"spec": {"template": {"spec": lists}}}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(text: &str) -> Result<Vec<(String, String)>, String> {
        patched_images(&PatchDeployment {
            namespace: "shop".into(),
            deployment: "web".into(),
            patch_type: PatchType::Strategic,
            patch: text.into(),
        })
    }

    #[test]
    fn a_patch_of_images_by_name_is_one() {
        let pair = |name: &str, image: &str| (name.to_owned(), image.to_owned());
        let text = r#"{"spec":{"template":{"spec":{"containers":[{"name":"a","image":"a:2"},{"image":"b:2","name":"b"}],
                       "initContainers":[{"name":"c","image":"c:2"}]}}}}"#;
        assert_eq!(
            patched(text),
            Ok(vec![pair("a", "a:2"), pair("b", "b:2"), pair("c", "c:2")])
        );
    }

    #[test]
    fn whatever_else_a_patch_would_change_it_is_none_of_images() {
        let pod = |pod: &str| format!(r#"{{"spec":{{"template":{{"spec":{pod}}}}}}}"#);
        let one = r#"{"name":"a","image":"a:2"}"#;
        for text in [
            pod(&format!(
                r#"{{"containers":[{one}],"serviceAccountName":"admin"}}"#
            )),
            pod(&format!(r#"{{"containers":[{one}],"volumes":[]}}"#)),
            pod(&format!(
                r#"{{"containers":[{one}],"initContainers":[{{"name":"b","image":"b","command":["x"]}}]}}"#
            )),
            pod(&format!(
                r#"{{"containers":[{one},{{"$patch":"delete","name":"b"}}]}}"#
            )),
            pod(&format!(r#"{{"$patch":"replace","containers":[{one}]}}"#)),
            pod(&format!(r#"{{"containers":[{one}],"containers":[]}}"#)),
            pod(r#"{"containers":[{"name":"a","image":"a:2","image":"b:2"}]}"#),
            pod(&format!(r#"{{"Containers":[{one}]}}"#)),
            pod(&format!(r#"{{"containers":[{one}],"CONTAINERS":[]}}"#)),
            pod(r#"{"containers":[{"name":"a","Image":"a:2"}]}"#),
            pod(r#"{"containers":[{"name":"a"}]}"#),
            pod(r#"{"containers":[{"image":"a:2"}]}"#),
            pod(&format!(r#"{{"containers":[{one},{one}]}}"#)),
            pod(&format!(r#"{{"containers":[{one}],"initContainers":[{one}]}}"#)),
            pod(r#"{"containers":[]}"#),
            pod("{}"),
            format!(r#"{{"spec":{{"replicas":9,"template":{{"spec":{{"containers":[{one}]}}}}}}}}"#),
            format!(r#"{{"metadata":{{}},"spec":{{"template":{{"spec":{{"containers":[{one}]}}}}}}}}"#),
            format!(r#"{{"spec":{{"template":{{"metadata":{{}},"spec":{{"containers":[{one}]}}}}}}}}"#),
            "{}".to_owned(),
            "[]".to_owned(),
            "not JSON".to_owned(),
        ] {
            assert!(patched(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_strategic_patch_leaves_the_other_containers_alone() {
        let text = r#"{"spec":{"template":{"spec":{"containers":[{"name":"a","image":"a:2"}]}}}}"#;
        for patch_type in [PatchType::Merge, PatchType::Json] {
            let patch = PatchDeployment {
                namespace: "shop".into(),
                deployment: "web".into(),
                patch_type,
                patch: text.into(),
            };
            assert!(patched_images(&patch).is_err(), "{patch_type:?}");
        }
    }

    #[test]
    fn each_image_goes_where_its_container_stands() {
        let images = [
            ("app".to_owned(), "app:2".to_owned()),
            ("proxy".to_owned(), "proxy:2".to_owned()),
        ];
        let sent: Value = serde_json::from_str(&patch_text(&images, &["proxy".to_owned()])).expect("JSON");
        assert_eq!(
            sent,
            json!({"spec": {"template": {"spec": {
                "containers": [{"name": "app", "image": "app:2"}],
                "initContainers": [{"name": "proxy", "image": "proxy:2"}]}}}})
        );
    }
}
