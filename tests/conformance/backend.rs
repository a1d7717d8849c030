//! Where cases run.

use std::sync::OnceLock;

use embedded_cluster::{EmbeddedCluster, EmbeddedOptions, Rbac, User};
use kube::Client;
use serde_json::Value;

use super::bodies::definition;

/// A cluster, as cases need it: somebody's client.
#[derive(Clone)]
pub(crate) enum Backend {
    /// The embedded one.
    Memory(Memory),
    /// A real one, by its administrator's client, who impersonates the others.
    Real(Client),
}

impl Backend {
    /// The client for requests of this user, with the headers that say who it is; nobody is the administrator.
    pub(super) fn client(&self, user: Option<&User>) -> (Client, Vec<(&'static str, String)>) {
        match self {
            Self::Memory(memory) => {
                let user = user.cloned().unwrap_or_else(User::admin);
                (memory.client(user), Vec::new())
            }
            Self::Real(client) => {
                let mut headers = Vec::new();
                if let Some(user) = user {
                    headers.push(("impersonate-user", user.name.clone()));
                    let groups = user.groups.iter();
                    headers.extend(groups.map(|group| ("impersonate-group", group.clone())));
                }
                (client.clone(), headers)
            }
        }
    }
}

/// The embedded cluster with all definitions that cases use.
#[derive(Clone)]
pub(crate) struct Memory(EmbeddedCluster);

impl Memory {
    pub(crate) fn new() -> Self {
        // Definitions take long to load, and a copy of what is loaded does not.
        static LOADED: OnceLock<EmbeddedCluster> = OnceLock::new();
        let options = || EmbeddedOptions {
            rbac: Rbac::Evaluate,
            // No kubelet works on the real control plane either.
            kubelets: false,
            ..EmbeddedOptions::default()
        };
        let loaded = LOADED.get_or_init(|| {
            let cluster = EmbeddedCluster::new(options());
            let ours = kubernaut_crds::crds();
            let mut objects: Vec<Value> = ours
                .iter()
                .map(|crd| serde_json::to_value(crd).expect("JSON"))
                .collect();
            objects.push(definition());
            cluster.load(objects).expect("loaded");
            cluster
        });
        Self(loaded.copy(options()))
    }

    /// Its administrator's client, or somebody else's.
    pub(crate) fn client(&self, user: User) -> Client {
        self.0.client(user)
    }

    /// Forgets the history of watches.
    pub(crate) fn compact(&self) {
        self.0.compact();
    }
}
