//! Clients and kubeconfigs of a control plane.

use std::path::{Path, PathBuf};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::error::{IoContext, TestbedError};

/// How to reach one API server: its address and CA, taken from a kubeconfig.
#[derive(Clone)]
pub(crate) struct Access {
    clusters: Value,
    kubeconfig: Kubeconfig,
}

impl Access {
    pub(crate) fn read(kubeconfig: &Path) -> Result<Self, TestbedError> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let clusters = kubeconfig
            .clusters
            .iter()
            .filter_map(|named| named.cluster.as_ref());
        let clusters = clusters
            .map(|cluster| json!({"name": "test", "cluster": cluster}))
            .collect();
        Ok(Self { clusters, kubeconfig })
    }

    /// A client as the user of the kubeconfig.
    pub(crate) async fn client(&self) -> Result<Client, TestbedError> {
        client(self.kubeconfig.clone()).await
    }

    /// A client of another user, whom the user of the kubeconfig impersonates.
    pub(crate) async fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client, TestbedError> {
        let mut kubeconfig = self.kubeconfig.clone();
        for named in &mut kubeconfig.auth_infos {
            let auth = named.auth_info.get_or_insert_default();
            auth.impersonate = Some(user.to_owned());
            auth.impersonate_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
        }
        client(kubeconfig).await
    }

    /// A client that has nothing but this bearer token.
    pub(crate) async fn client_for_token(&self, token: &str) -> Result<Client, TestbedError> {
        client(Kubeconfig::from_yaml(&self.token_kubeconfig(token, "default"))?).await
    }

    /// A kubeconfig, in JSON, with this token and this default namespace.
    ///
    /// There is no client certificate in it: a certificate would win over the token.
    pub(crate) fn token_kubeconfig(&self, token: &str, namespace: &str) -> String {
        self.kubeconfig_of(&json!({"token": token}), namespace)
    }

    /// A kubeconfig, in JSON, with a file that has the token in it.
    pub(crate) fn token_file_kubeconfig(&self, token: &Path, namespace: &str) -> String {
        self.kubeconfig_of(&json!({"tokenFile": token}), namespace)
    }

    fn kubeconfig_of(&self, user: &Value, namespace: &str) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": self.clusters,
            "users": [{"name": "user", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user", "namespace": namespace}}],
            "current-context": "test",
        })
        .to_string()
    }
}

/// Writes a kubeconfig that holds a fresh token of the service account, valid for a day.
///
/// The file appears by a rename, so that a process reading an older one at `path` is not disturbed.
pub(crate) async fn write_service_account_kubeconfig(
    access: &Access,
    client: &Client,
    (namespace, name): (&str, &str),
    path: PathBuf,
) -> Result<PathBuf, TestbedError> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(86_400),
            ..Default::default()
        },
        ..Default::default()
    };
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let answer = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await?;
    let token = answer.status.map(|status| status.token).unwrap_or_default();
    let unfinished = path.with_extension("unfinished");
    let write = std::fs::write(&unfinished, access.token_kubeconfig(&token, namespace));
    write
        .and_then(|()| std::fs::rename(&unfinished, &path))
        .context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Repeating requests that were refused with 429, 503 or 504 is switched off: tests see real errors.
async fn client(kubeconfig: Kubeconfig) -> Result<Client, TestbedError> {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    config.proxy_url = None;
    Ok(Client::try_from(config)?)
}
