//! The way to a cluster, as kubectl finds it.

use std::path::PathBuf;

use clap::Args;
use clap_complete::ArgValueCandidates;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::ApiResource;
use kube::{Client, Resource};
use kubernaut_crds::{WorkflowExecution, names};
use serde::de::DeserializeOwned;

use super::complete;
use crate::kube_api::chain;
use crate::kubeconfig;
use crate::rehearsal::input::meant;
use crate::rehearsal::rehearse::quoted;
use crate::terminal::{Trouble, complain};

/// So many objects are read at once, so that ten thousand need no more memory than these and what is kept of the others.
const PAGE: u32 = 250;
/// So many names are looked at for the one that was meant.
const NAMES_MAX: u32 = 500;

/// Which cluster, as whom, and which namespace.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ConnectArguments {
    /// Namespace. Default: that of the context, else default
    #[arg(long, short, value_name = "NAME", add = ArgValueCandidates::new(complete::namespaces))]
    pub(super) namespace: Option<String>,
    /// The kubeconfig of the cluster. Default: KUBECONFIG, then ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. Default: its current one
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::contexts))]
    context: Option<String>,
    /// User to act as, where you may impersonate it
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// Group to act as, with --as; may be given several times
    #[arg(long = "as-group", value_name = "GROUP", requires = "user")]
    groups: Vec<String>,
}

/// One workflow, in one cluster.
#[derive(Args, Clone, Debug)]
pub(super) struct Named {
    /// Name of the workflow
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::workflows))]
    pub(super) name: String,
    #[command(flatten)]
    pub(super) connect: ConnectArguments,
}

/// Where the Jobs of steps run.
#[derive(Args, Clone, Debug)]
pub(super) struct JobsArguments {
    /// Namespace where the Jobs of steps run, where the controller has another --executor-namespace than the default
    #[arg(
        long,
        env = "KUBERNAUT_EXECUTOR_NAMESPACE",
        default_value = names::EXECUTOR_NAMESPACE,
        value_name = "NAMESPACE",
        help_heading = "Cluster"
    )]
    pub(super) executor_namespace: String,
}

/// A cluster that answers for this user.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    /// For watches and logs, which are silent while nothing happens.
    pub(super) streams: Client,
    /// Context and address, for messages.
    pub(super) name: String,
    pub(super) namespace: String,
    /// The flags by which kubectl, or this program, finds the same cluster.
    pub(super) flags: String,
}

impl Connection {
    /// # Errors
    /// There is no such kubeconfig or context.
    pub(super) async fn open(arguments: &ConnectArguments) -> Result<Self, Trouble> {
        let from = match &arguments.kubeconfig {
            Some(path) => format!("--kubeconfig={}", path.display()),
            None => "the cluster".to_owned(),
        };
        let found = kubeconfig::config(
            arguments.kubeconfig.as_deref(),
            arguments.context.as_deref(),
            &from,
        );
        let (mut config, context) = found.await.map_err(Trouble::Input)?;
        if arguments.user.is_some() {
            config.auth_info.impersonate.clone_from(&arguments.user);
            config.auth_info.impersonate_groups = Some(arguments.groups.clone());
        }
        let name = format!("{context} ({})", config.cluster_url);
        let namespace = arguments
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let unusable = |error: kube::Error| Trouble::Here(format!("cluster {name}: {error}"));
        let mut silent = config.clone();
        silent.read_timeout = None;
        let streams = Client::try_from(silent).map_err(unusable)?;
        let client = Client::try_from(config).map_err(unusable)?;
        Ok(Self {
            client,
            streams,
            name,
            namespace,
            flags: arguments.flags(),
        })
    }

    /// This cluster, and another namespace.
    pub(super) fn within(&self, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            ..self.clone()
        }
    }

    /// The workflows of the namespace, of whatever version of kubernaut.
    pub(super) fn workflows(&self) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<WorkflowExecution>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// One kind in the namespace.
    pub(super) fn of<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The workflow of this name.
    ///
    /// # Errors
    /// There is none, or it can't be read.
    pub(super) async fn workflow(&self, name: &str) -> Result<WorkflowExecution, Trouble> {
        self.typed(self.workflow_as_stored(name).await?)
    }

    /// The workflow of this name, also with what this version does not know.
    ///
    /// # Errors
    /// There is none, or it can't be read.
    pub(super) async fn workflow_as_stored(&self, name: &str) -> Result<DynamicObject, Trouble> {
        match self.workflows().get_opt(name).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(self.unknown(name).await),
            Err(error) => Err(self.trouble("reading the workflow", &error)),
        }
    }

    /// An object as this program knows it.
    ///
    /// # Errors
    /// It says what this version does not know.
    pub(super) fn typed<K: DeserializeOwned>(&self, found: DynamicObject) -> Result<K, Trouble> {
        let name = found.metadata.name.clone().unwrap_or_default();
        let value = serde_json::to_value(found).unwrap_or_default();
        serde_json::from_value(value).map_err(|error| {
            Trouble::Here(format!(
                "{name} in cluster {} can't be read by this version of kubernaut: {error}",
                self.name
            ))
        })
    }

    /// Hands over every object of a list, read a page at a time. What this version can't read is told, and passed over.
    ///
    /// # Errors
    /// The API server does not answer, or refuses.
    pub(super) async fn each<K: DeserializeOwned>(
        &self,
        api: &Api<DynamicObject>,
        mut parameters: ListParams,
        mut take: impl FnMut(K),
    ) -> Result<(), kube::Error> {
        parameters.limit = Some(PAGE);
        loop {
            let page = api.list(&parameters).await?;
            for object in page.items {
                match self.typed(object) {
                    Ok(typed) => take(typed),
                    Err(trouble) => complain(&format!("warning: {}", trouble.words())),
                }
            }
            parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if parameters.continue_token.is_none() {
                return Ok(());
            }
        }
    }

    /// There is no workflow of this name: which one may have been meant.
    async fn unknown(&self, name: &str) -> Trouble {
        let Self {
            name: cluster,
            namespace,
            ..
        } = self;
        let listed = self
            .workflows()
            .list_metadata(&ListParams::default().limit(NAMES_MAX))
            .await;
        let names: Vec<String> = listed
            .into_iter()
            .flat_map(|list| list.items)
            .filter_map(|item| item.metadata.name)
            .collect();
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let hint = match meant(name, &known) {
            Some(meant) => format!("; did you mean {meant}?"),
            None if known.is_empty() => "; there is none".to_owned(),
            None => String::new(),
        };
        Trouble::Input(format!(
            "there is no workflow {name} in namespace {namespace} of cluster {cluster}{hint}"
        ))
    }

    /// What a call that failed means for a person.
    pub(super) fn trouble(&self, doing: &str, error: &kube::Error) -> Trouble {
        let cluster = &self.name;
        let kube::Error::Api(status) = error else {
            let words = chain(error);
            return Trouble::Here(format!("{doing}: cluster {cluster} does not answer: {words}"));
        };
        let words = if status.code == 404 && status.message.contains("could not find") {
            format!("{doing}: cluster {cluster} has no kubernaut: install deploy/base")
        } else {
            format!("{doing} in cluster {cluster}: {}", status.message)
        };
        Trouble::Here(words)
    }

    /// Who asks, as the API server knows it.
    pub(super) async fn user(&self) -> Result<String, Trouble> {
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = api
            .create(&PostParams::default(), &SelfSubjectReview::default())
            .await
            .map_err(|error| self.trouble("asking who you are", &error))?;
        let user = review.status.and_then(|status| status.user_info);
        user.and_then(|user| user.username)
            .filter(|name| !name.is_empty())
            .ok_or_else(|| Trouble::Here(format!("cluster {} does not say who you are", self.name)))
    }
}

impl ConnectArguments {
    /// What is known of them while a line is being completed.
    pub(super) fn of_completion(
        namespace: Option<String>,
        kubeconfig: Option<PathBuf>,
        context: Option<String>,
    ) -> Self {
        Self {
            namespace,
            kubeconfig,
            context,
            user: None,
            groups: Vec::new(),
        }
    }

    fn flags(&self) -> String {
        let flag = |name: &str, value: &str| format!(" {}", quoted(&format!("--{name}={value}")));
        let file = self.kubeconfig.as_ref();
        let file = file.map(|file| flag("kubeconfig", &file.display().to_string()));
        let context = self.context.as_ref().map(|name| flag("context", name));
        let user = self.user.as_ref().map(|name| flag("as", name));
        let groups = self.groups.iter().map(|name| flag("as-group", name));
        file.into_iter()
            .chain(context)
            .chain(user)
            .chain(groups)
            .collect()
    }
}
