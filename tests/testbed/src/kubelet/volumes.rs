//! Volumes of a pod as directories, and paths inside its containers as paths to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume,
};
use kube::{Api, Client, ResourceExt};

/// A pod's volumes by name.
pub(super) struct Volumes(BTreeMap<String, PathBuf>);

impl Volumes {
    /// Writes the pod's `downwardAPI`, Secret, `ConfigMap` and `emptyDir` volumes below `dir`. Other kinds stay out: kubectl
    /// gets its token by a kubeconfig.
    ///
    /// The error says what is missing; a kubelet waits for it.
    pub(super) async fn write(client: &Client, pod: &Pod, dir: &Path) -> Result<Self, String> {
        let mut volumes = BTreeMap::new();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let Some(files) = files_of(client, pod, volume).await? else {
                continue;
            };
            let path = dir.join("volumes").join(&volume.name);
            let write = fs::create_dir_all(&path).and_then(|()| {
                files
                    .iter()
                    .try_for_each(|(file, content)| write_file(&path.join(file), content))
            });
            write.map_err(|error| format!("volume {}: {error}", volume.name))?;
            volumes.insert(volume.name.clone(), path);
        }
        Ok(Self(volumes))
    }

    /// The text with a path below one of the container's mounts replaced by where the files really are. A path is
    /// looked for at the beginning and after the first `=` (`--filename=/payload/options.json`): never inside a value.
    pub(super) fn localise(&self, container: &Container, text: &str) -> String {
        let (flag, value) = match text.split_once('=') {
            Some((flag, value)) if flag.starts_with('-') => (format!("{flag}="), value),
            _ => (String::new(), text),
        };
        for mount in container.volume_mounts.iter().flatten() {
            let Some(dir) = self.0.get(&mount.name) else {
                continue;
            };
            if let Some(rest) = value.strip_prefix(mount.mount_path.trim_end_matches('/'))
                && (rest.is_empty() || rest.starts_with('/'))
            {
                return format!("{flag}{}{rest}", dir.display());
            }
        }
        text.to_owned()
    }
}

/// What a container's `env` says, as far as it needs no other object.
pub(super) fn environment(pod: &Pod, container: &Container) -> Vec<(String, String)> {
    let variables = container.env.iter().flatten();
    let value = |variable: &k8s_openapi::api::core::v1::EnvVar| {
        let source = variable
            .value_from
            .as_ref()
            .and_then(|from| from.field_ref.as_ref());
        let from_field = source.and_then(|source| field(pod, &source.field_path));
        variable.value.clone().or(from_field).unwrap_or_default()
    };
    variables
        .map(|variable| (variable.name.clone(), value(variable)))
        .collect()
}

type Files = Vec<(String, Vec<u8>)>;

async fn files_of(client: &Client, pod: &Pod, volume: &Volume) -> Result<Option<Files>, String> {
    let namespace = pod.namespace().unwrap_or_default();
    if volume.empty_dir.is_some() {
        return Ok(Some(Vec::new()));
    }
    if let Some(downward) = &volume.downward_api {
        let file = |item: &DownwardAPIVolumeFile| {
            let value = item
                .field_ref
                .as_ref()
                .and_then(|source| field(pod, &source.field_path));
            (item.path.clone(), value.unwrap_or_default().into_bytes())
        };
        return Ok(Some(downward.items.iter().flatten().map(file).collect()));
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.clone().unwrap_or_default();
        let found = Api::<Secret>::namespaced(client.clone(), &namespace)
            .get_opt(&name)
            .await;
        let found = found.map_err(|error| format!("secret {name}: {error}"))?;
        return match found {
            Some(secret) => Ok(Some(items(
                source.items.as_deref(),
                secret.data.unwrap_or_default(),
            )?)),
            None if source.optional == Some(true) => Ok(Some(Vec::new())),
            None => Err(format!("secret \"{name}\" not found")),
        };
    }
    if let Some(source) = &volume.config_map {
        let name = &source.name;
        let found = Api::<ConfigMap>::namespaced(client.clone(), &namespace)
            .get_opt(name)
            .await;
        let found = found.map_err(|error| format!("configmap {name}: {error}"))?;
        return match found {
            Some(map) => {
                let text = map
                    .data
                    .into_iter()
                    .flatten()
                    .map(|(key, text)| (key, ByteString(text.into_bytes())));
                let data = text.chain(map.binary_data.into_iter().flatten()).collect();
                Ok(Some(items(source.items.as_deref(), data)?))
            }
            None if source.optional == Some(true) => Ok(Some(Vec::new())),
            None => Err(format!("configmap \"{name}\" not found")),
        };
    }
    Ok(None)
}

/// All keys as files, or the listed ones under their paths.
fn items(listed: Option<&[KeyToPath]>, data: BTreeMap<String, ByteString>) -> Result<Files, String> {
    let Some(listed) = listed else {
        return Ok(data.into_iter().map(|(key, content)| (key, content.0)).collect());
    };
    let file = |item: &KeyToPath| {
        let content = data
            .get(&item.key)
            .ok_or_else(|| format!("references non-existent key: {}", item.key))?;
        Ok((item.path.clone(), content.0.clone()))
    };
    listed.iter().map(file).collect()
}

fn write_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content)
}

/// The value of a downward API field path.
fn field(pod: &Pod, path: &str) -> Option<String> {
    let lines = |map: &BTreeMap<String, String>| {
        let lines = map.iter().map(|(key, value)| format!("{key}={value:?}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let spec = pod.spec.as_ref()?;
    match path {
        "metadata.name" => pod.metadata.name.clone(),
        "metadata.namespace" => pod.metadata.namespace.clone(),
        "metadata.uid" => pod.metadata.uid.clone(),
        "metadata.annotations" => Some(lines(pod.annotations())),
        "metadata.labels" => Some(lines(pod.labels())),
        "spec.nodeName" => spec.node_name.clone(),
        "spec.serviceAccountName" => spec.service_account_name.clone(),
        _ => {
            let (map, key) = path.strip_suffix("']")?.split_once("['")?;
            match map {
                "metadata.annotations" => pod.annotations().get(key).cloned(),
                "metadata.labels" => pod.labels().get(key).cloned(),
                _ => None,
            }
        }
    }
}
