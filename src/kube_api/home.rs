//! Workflows, executions and Events.

use std::sync::Arc;

use futures::FutureExt;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PropagationPolicy};
use kubernaut_actors::ports::{Answer, HomeApi, Key, Subject};
use kubernaut_crds::{KubernetesExecution, WorkflowExecution};
use kubernaut_machines::announcement::EventRecord;
use kubernaut_machines::api_command::ApiFailure;
use serde_json::Value;

use super::failure::{already_exists, failure_of, unread};
use super::{KubeApi, absent_is_success, by_us, precondition, vanished};
use crate::guard::Guard;

impl HomeApi for KubeApi {
    fn patch_execution_status<'a>(
        &'a self,
        execution: &'a KubernetesExecution,
        patch: &'a Value,
    ) -> Answer<'a, Arc<KubernetesExecution>> {
        async move {
            let api = self.executions(&execution.namespace().unwrap_or_default());
            let (name, parameters, patch) = (execution.name_any(), by_us(), Patch::Merge(patch));
            let call = api.patch_status(&name, &parameters, &patch);
            let patched = self.counted("patch", "kubernetesexecutions/status", call).await;
            shared("patch", patched.map_err(|error| failure_of("patch", error))?)
        }
        .boxed()
    }

    fn patch_workflow_status<'a>(
        &'a self,
        workflow: &'a WorkflowExecution,
        patch: &'a Value,
    ) -> Answer<'a, Arc<WorkflowExecution>> {
        async move {
            let api = self.workflows(&workflow.namespace().unwrap_or_default());
            let (name, parameters, patch) = (workflow.name_any(), by_us(), Patch::Merge(patch));
            let call = api.patch_status(&name, &parameters, &patch);
            let patched = self.counted("patch", "workflowexecutions/status", call).await;
            shared("patch", patched.map_err(|error| failure_of("patch", error))?)
        }
        .boxed()
    }

    fn patch_execution<'a>(
        &'a self,
        execution: &'a KubernetesExecution,
        patch: &'a Value,
    ) -> Answer<'a, Arc<KubernetesExecution>> {
        async move {
            let api = self.executions(&execution.namespace().unwrap_or_default());
            let (name, parameters, patch) = (execution.name_any(), by_us(), Patch::Merge(patch));
            let call = api.patch(&name, &parameters, &patch);
            let patched = self.counted("patch", "kubernetesexecutions", call).await;
            shared("patch", patched.map_err(|error| failure_of("patch", error))?)
        }
        .boxed()
    }

    fn execution<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> Answer<'a, Option<Arc<KubernetesExecution>>> {
        self.find_execution(namespace, name).boxed()
    }

    fn workflow<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> Answer<'a, Option<Arc<WorkflowExecution>>> {
        async move {
            let api = self.workflows(namespace);
            let found = self.get("workflowexecutions", api.get_opt(name)).await?;
            found.map(|found| shared("get", found)).transpose()
        }
        .boxed()
    }

    fn create_execution<'a>(
        &'a self,
        execution: &'a KubernetesExecution,
    ) -> Answer<'a, (Arc<KubernetesExecution>, bool)> {
        self.make_execution(execution).boxed()
    }

    fn delete_workflow<'a>(&'a self, key: &'a Key, uid: &'a str) -> Answer<'a, ()> {
        async move {
            let (api, parameters) = (self.workflows(&key.namespace), of_uid(uid));
            absent_is_success(
                self.counted("delete", "workflowexecutions", api.delete(&key.name, &parameters))
                    .await,
            )
        }
        .boxed()
    }

    fn delete_execution<'a>(&'a self, key: &'a Key, uid: &'a str) -> Answer<'a, ()> {
        async move {
            let (api, parameters) = (self.executions(&key.namespace), of_uid(uid));
            absent_is_success(
                self.counted(
                    "delete",
                    "kubernetesexecutions",
                    api.delete(&key.name, &parameters),
                )
                .await,
            )
        }
        .boxed()
    }

    fn publish<'a>(&'a self, subject: &'a Subject, event: &'a EventRecord, at: Timestamp) -> Answer<'a, ()> {
        self.post_event(subject, event, at).boxed()
    }
}

impl KubeApi {
    fn executions(&self, namespace: &str) -> Api<Guard<KubernetesExecution>> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn workflows(&self, namespace: &str) -> Api<Guard<WorkflowExecution>> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn find_execution(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<KubernetesExecution>>, ApiFailure> {
        let api = self.executions(namespace);
        let found = self.get("kubernetesexecutions", api.get_opt(name)).await?;
        found.map(|found| shared("get", found)).transpose()
    }

    async fn make_execution(
        &self,
        execution: &KubernetesExecution,
    ) -> Result<(Arc<KubernetesExecution>, bool), ApiFailure> {
        let (namespace, name) = (execution.namespace().unwrap_or_default(), execution.name_any());
        let made: Result<Guard<KubernetesExecution>, _> =
            self.create("kubernetesexecutions", &namespace, execution).await;
        let error = match made {
            Ok(made) => return Ok((shared("create", made)?, true)),
            Err(error) => error,
        };
        if !already_exists(&error) {
            return Err(failure_of("create", error));
        }
        match self.find_execution(&namespace, &name).await? {
            Some(found) => Ok((found, false)),
            None => Err(vanished("kubernetesexecution", &name)),
        }
    }
}

/// In the background: the executions have their own finalizers.
fn of_uid(uid: &str) -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(precondition(Some(uid.to_owned()))),
        ..DeleteParams::default()
    }
}

/// The object of an answer.
fn shared<K>(verb: &str, answer: Guard<K>) -> Result<Arc<K>, ApiFailure> {
    let object = answer
        .object
        .map_err(|unreadable| unread(verb, &unreadable.error))?;
    Ok(Arc::new(object))
}
