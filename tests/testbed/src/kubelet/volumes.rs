//! Volumes of a pod as directories, and paths inside its containers as paths to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccount,
    ServiceAccountTokenProjection, Volume,
};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

/// A pod's volumes by name.
pub(super) struct Volumes(BTreeMap<String, PathBuf>);

impl Volumes {
    /// Writes the pod's `downwardAPI`, Secret, `ConfigMap`, `emptyDir` and projected volumes below `dir`. Other kinds stay
    /// out.
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

    /// The file with the token of its account that a container sees.
    pub(super) fn token(&self, container: &Container) -> Option<PathBuf> {
        let file = PathBuf::from(self.localise(container, TOKEN));
        file.is_file().then_some(file)
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

/// Where a container finds a token of its account, if it has one.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

type Files = Vec<(String, Vec<u8>)>;

async fn files_of(client: &Client, pod: &Pod, volume: &Volume) -> Result<Option<Files>, String> {
    if volume.empty_dir.is_some() {
        return Ok(Some(Vec::new()));
    }
    if let Some(downward) = &volume.downward_api {
        return Ok(Some(fields(pod, downward.items.as_deref())));
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.clone().unwrap_or_default();
        let wanted = (source.items.as_deref(), source.optional);
        return secret(client, pod, &name, wanted).await.map(Some);
    }
    if let Some(source) = &volume.config_map {
        let wanted = (source.items.as_deref(), source.optional);
        return config_map(client, pod, &source.name, wanted).await.map(Some);
    }
    let Some(projected) = &volume.projected else {
        return Ok(None);
    };
    let mut files = Vec::new();
    for source in projected.sources.iter().flatten() {
        if let Some(downward) = &source.downward_api {
            files.extend(fields(pod, downward.items.as_deref()));
        }
        if let Some(source) = &source.secret {
            let wanted = (source.items.as_deref(), source.optional);
            files.extend(secret(client, pod, &source.name, wanted).await?);
        }
        if let Some(source) = &source.config_map {
            let wanted = (source.items.as_deref(), source.optional);
            files.extend(config_map(client, pod, &source.name, wanted).await?);
        }
        if let Some(source) = &source.service_account_token {
            files.push((source.path.clone(), token(client, pod, source).await?));
        }
    }
    Ok(Some(files))
}

fn fields(pod: &Pod, items: Option<&[DownwardAPIVolumeFile]>) -> Files {
    let file = |item: &DownwardAPIVolumeFile| {
        let source = item.field_ref.as_ref();
        let value = source.and_then(|source| field(pod, &source.field_path));
        (item.path.clone(), value.unwrap_or_default().into_bytes())
    };
    items.into_iter().flatten().map(file).collect()
}

/// The listed keys, if not all, and whether the object may be missing.
type Wanted<'a> = (Option<&'a [KeyToPath]>, Option<bool>);

async fn secret(
    client: &Client,
    pod: &Pod,
    name: &str,
    (listed, optional): Wanted<'_>,
) -> Result<Files, String> {
    let namespace = pod.namespace().unwrap_or_default();
    let found = Api::<Secret>::namespaced(client.clone(), &namespace)
        .get_opt(name)
        .await;
    match found.map_err(|error| format!("secret {name}: {error}"))? {
        Some(secret) => items(listed, secret.data.unwrap_or_default()),
        None if optional == Some(true) => Ok(Vec::new()),
        None => Err(format!("secret \"{name}\" not found")),
    }
}

async fn config_map(
    client: &Client,
    pod: &Pod,
    name: &str,
    (listed, optional): Wanted<'_>,
) -> Result<Files, String> {
    let namespace = pod.namespace().unwrap_or_default();
    let found = Api::<ConfigMap>::namespaced(client.clone(), &namespace)
        .get_opt(name)
        .await;
    match found.map_err(|error| format!("configmap {name}: {error}"))? {
        Some(map) => {
            let text = map
                .data
                .into_iter()
                .flatten()
                .map(|(key, text)| (key, ByteString(text.into_bytes())));
            let data = text.chain(map.binary_data.into_iter().flatten()).collect();
            items(listed, data)
        }
        None if optional == Some(true) => Ok(Vec::new()),
        None => Err(format!("configmap \"{name}\" not found")),
    }
}

/// As a kubelet asks for it: bound to the pod, so that it ends with the pod and tells its name.
async fn token(
    client: &Client,
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
) -> Result<Vec<u8>, String> {
    let namespace = pod.namespace().unwrap_or_default();
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.clone());
    let account = account.unwrap_or_else(|| "default".to_owned());
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: source.audience.iter().cloned().collect(),
            expiration_seconds: source.expiration_seconds,
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        },
        ..TokenRequest::default()
    };
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &namespace);
    let answer = accounts
        .create_token_request(&account, &PostParams::default(), &request)
        .await;
    let answer = answer.map_err(|error| format!("token of {account}: {error}"))?;
    Ok(answer
        .status
        .map(|status| status.token)
        .unwrap_or_default()
        .into_bytes())
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
