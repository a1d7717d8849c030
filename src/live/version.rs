//! `kubernaut version`: of this program, and of the controller in a cluster.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams};
use serde::Serialize;

use super::connection::{ConnectArguments, Connection};
use crate::terminal::{Done, Trouble, complain, print};

/// Print the version of this program, and of the controller in the cluster
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Try it: kubernaut version --client\n\nExit codes: 0 it is printed (also when the cluster does not say its own)."
)]
pub(crate) struct VersionOptions {
    /// Ask no cluster
    #[arg(long)]
    client: bool,
    /// What is printed
    #[arg(long, short, value_enum, default_value_t = Form::Text)]
    output: Form,
    #[command(flatten)]
    connect: ConnectArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kubernetes: Option<String>,
}

pub(super) async fn version(options: &VersionOptions) -> Done {
    let mut versions = Versions {
        client: env!("CARGO_PKG_VERSION"),
        controller: None,
        kubernetes: None,
    };
    if !options.client {
        match ask(options).await {
            Ok((kubernetes, controller)) => {
                versions.kubernetes = Some(kubernetes);
                versions.controller = controller;
            }
            Err(why) => complain(&format!("note: {why}")),
        }
    }
    match options.output {
        Form::Json => print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&versions).unwrap_or_default()
        ))?,
        Form::Text => {
            let controller = versions.controller.map(|found| format!("controller {found}\n"));
            let kubernetes = versions.kubernetes.map(|found| format!("kubernetes {found}\n"));
            print(&format!(
                "kubernaut  {}\n{}{}",
                versions.client,
                controller.unwrap_or_default(),
                kubernetes.unwrap_or_default()
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The version of Kubernetes, and the image of the controller.
async fn ask(options: &VersionOptions) -> Result<(String, Option<String>), String> {
    let connection = Connection::open(&options.connect).await.map_err(Trouble::words)?;
    let info = connection.client.apiserver_version().await;
    let info = info.map_err(|error| connection.trouble("asking for its version", &error).words())?;
    let api: Api<Deployment> = Api::all(connection.client.clone());
    let labels = ListParams::default().labels("app.kubernetes.io/name=kubernaut");
    let image = match api.list(&labels).await {
        Ok(found) => found.items.into_iter().find_map(|deployment| {
            let pod = deployment.spec?.template.spec?;
            pod.containers.into_iter().find_map(|container| container.image)
        }),
        Err(error) => {
            complain(&format!(
                "note: {}",
                connection.trouble("looking for the controller", &error).words()
            ));
            None
        }
    };
    Ok((info.git_version, image))
}
