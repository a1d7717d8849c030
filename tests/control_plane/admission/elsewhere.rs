//! Other namespaces, and the executor's: there RBAC alone keeps a developer out.

use serde_json::json;

use super::backend::{OTHER, TEAM, at, developer, flow, ground, pod, pod_spec, single};
use super::way::{Act, all_are_refused, create, delete, get, patch, patch_part, token_of, way};
use crate::scene::{EXECUTION, EXECUTOR, POD, WORKFLOW};

#[tokio::test]
async fn the_role_edit_of_one_namespace_reaches_into_no_other() {
    let no_workflow = "cannot create resource \"workflowexecutions\"";
    let no_execution = "cannot create resource \"kubernetesexecutions\"";
    let cancel = || json!({"spec": {"shutdown": "Cancel"}});
    let ways = vec![
        way(
            "a developer runs a workflow in another namespace",
            create(at(OTHER, flow("there", json!({})))),
            no_workflow,
            "a developer runs one at home",
            create(flow("here", json!({}))),
        ),
        way(
            "a developer runs an execution in another namespace",
            create(at(OTHER, single("there", json!({})))),
            no_execution,
            "a developer runs one at home",
            create(single("here", json!({}))),
        ),
        way(
            "a developer runs a workflow in a namespace of the cluster",
            create(at("kube-system", flow("there", json!({})))),
            no_workflow,
            "a developer runs one at home",
            create(flow("here", json!({}))),
        ),
        way(
            "a developer runs an execution in the executor's namespace",
            create(at(EXECUTOR, single("there", json!({})))),
            no_execution,
            "a developer runs one at home",
            create(single("here", json!({}))),
        ),
        way(
            "a developer reads somebody's workflow, with the Secrets in it",
            get(WORKFLOW, OTHER, "theirs"),
            "cannot get resource \"workflowexecutions\"",
            "a developer reads one of his team",
            get(WORKFLOW, TEAM, "ended"),
        ),
        way(
            "a developer stops somebody's execution",
            patch(EXECUTION, OTHER, "theirs", cancel()),
            "cannot patch resource \"kubernetesexecutions\"",
            "a developer stops one of his team",
            patch(EXECUTION, TEAM, "hang-alone", cancel()),
        ),
        way(
            "a developer releases the lock of somebody's execution",
            patch(
                EXECUTION,
                OTHER,
                "theirs",
                json!({"metadata": {"annotations": {"kubernaut.io/release-lock": "yes"}}}),
            ),
            "cannot patch resource \"kubernetesexecutions\"",
            "a developer puts a note on one of his team",
            patch(
                EXECUTION,
                TEAM,
                "ended",
                json!({"metadata": {"annotations": {"example.com/note": "x"}}}),
            ),
        ),
        way(
            "a developer deletes somebody's workflow",
            delete(WORKFLOW, OTHER, "theirs"),
            "cannot delete resource \"workflowexecutions\"",
            "a developer deletes one of his team",
            delete(WORKFLOW, TEAM, "ended"),
        ),
        way(
            "a developer writes the status of a workflow of his team",
            patch_part(
                WORKFLOW,
                TEAM,
                "ended",
                "status",
                json!({"status": {"phase": "completed"}}),
            ),
            "cannot patch resource \"workflowexecutions/status\"",
            "a developer reads it",
            get(WORKFLOW, TEAM, "ended"),
        ),
    ];
    all_are_refused(&developer().await, ways).await;
}

#[tokio::test]
async fn a_developer_gets_nowhere_near_the_executor() {
    let ground = ground().await;
    let job = |namespace: &str| {
        create(json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "own", "namespace": namespace},
            "spec": {"template": {"spec": pod_spec()}},
        }))
    };
    let secret = |namespace: &str| {
        create(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own", "namespace": namespace}}),
        )
    };
    let as_drain = json!({"spec": {"serviceAccountName": "drain-node-sa"}});
    let ways = vec![
        way(
            "a developer creates a Job for an account of the executor",
            job(EXECUTOR),
            "cannot create resource \"jobs\"",
            "a developer creates a Job at home",
            job(TEAM),
        ),
        way(
            "a developer creates a pod for an account of the executor",
            create(pod(EXECUTOR, "own", as_drain.clone())),
            "cannot create resource \"pods\"",
            "a developer creates a pod at home",
            create(pod(TEAM, "another", json!({}))),
        ),
        way(
            "a developer names an account of the executor in a pod at home",
            create(pod(TEAM, "another", as_drain)),
            "serviceaccount \"drain-node-sa\" not found",
            "a developer names an account of his own",
            create(pod(
                TEAM,
                "another",
                json!({"spec": {"serviceAccountName": "developer"}}),
            )),
        ),
        way(
            "a developer makes a Secret for the executor to read",
            secret(EXECUTOR),
            "cannot create resource \"secrets\"",
            "a developer makes a Secret at home",
            secret(TEAM),
        ),
        way(
            "a developer reads a payload",
            get("v1/Secret", EXECUTOR, &ground.job),
            "cannot get resource \"secrets\"",
            "a developer reads the execution",
            get(EXECUTION, TEAM, "hang-alone"),
        ),
        way(
            "a developer gets into a pod of the executor",
            Act::Enter(EXECUTOR, ground.pod.clone(), "exec"),
            "cannot create resource \"pods/exec\"",
            "a developer gets into a pod of his own",
            Act::Enter(TEAM, "own".to_owned(), "exec"),
        ),
        way(
            "a developer changes the image of a pod of the executor",
            patch(
                POD,
                EXECUTOR,
                &ground.pod,
                json!({"metadata": {"labels": {"a": "b"}}}),
            ),
            "cannot patch resource \"pods\"",
            "a developer labels a pod of his own",
            patch(POD, TEAM, "own", json!({"metadata": {"labels": {"a": "b"}}})),
        ),
        way(
            "a developer asks for a token of an account of the executor",
            token_of(EXECUTOR, "drain-node-sa"),
            "cannot create resource \"serviceaccounts/token\"",
            "a developer asks for a token of his own",
            token_of(TEAM, "developer"),
        ),
        way(
            "a developer asks for a token of the controller",
            token_of("kubernaut-system", "kubernaut-controller"),
            "cannot create resource \"serviceaccounts/token\"",
            "a developer asks for a token of his own",
            token_of(TEAM, "developer"),
        ),
    ];
    all_are_refused(&developer().await, ways).await;
}
