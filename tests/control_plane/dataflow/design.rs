//! The design document's own example, and the sample that comes with the project.

use serde_json::{Value, json};

use crate::bed::bed;
use crate::scene::{CONFIG_MAP, DEPLOYMENT, EXECUTOR, JOB, Scene, api, execution, phases, pretty, step};

/// The execution that the design document's "Step Execution Flow Example" generates from step 2, but for the uid of
/// its workflow.
const DESIGN: &str = r#"
apiVersion: kubernetesexecution.kubernaut.io/v1
kind: KubernetesExecution
metadata:
  name: payment-api-workflow-step-2
  namespace: production
  ownerReferences:
  - apiVersion: workflow.kubernaut.io/v1
    kind: WorkflowExecution
    name: payment-api-workflow
    uid: xyz789
    controller: true
spec:
  workflowExecutionRef:
    name: payment-api-workflow
    namespace: production
    uid: xyz789
  stepNumber: 2
  action: "scale-deployment"
  parameters:
    scaleDeployment:
      deployment: "payment-api"
      namespace: "production"
      replicas: 5
  targetCluster: "production-cluster"
  maxRetries: 3
  timeout: "5m"
  approvalReceived: true
"#;

fn design_steps() -> Value {
    let target = json!({"namespace": "production", "deployment": "payment-api"});
    let scale = json!({"namespace": "production", "deployment": "payment-api", "replicas": 5});
    json!([
        step(
            1,
            "restart-deployment",
            json!({"restartDeployment": target}),
            json!({"name": "restart", "targetCluster": "production-cluster"})
        ),
        step(
            2,
            "scale-deployment",
            json!({"scaleDeployment": scale}),
            json!({"name": "scale-deployment", "targetCluster": "production-cluster", "criticalStep": false,
                    "maxRetries": 3, "timeout": "5m", "dependsOn": [1]})
        ),
    ])
}

#[tokio::test]
async fn the_example_of_the_design_runs_and_its_execution_is_the_one_that_the_design_shows() {
    let scene = Scene::new(bed().await, "production").await;
    scene.deployment("payment-api", 3).await;
    scene
        .start("payment-api-workflow", design_steps(), json!({}))
        .await;
    let workflow = scene.succeeded("payment-api-workflow").await;
    let uid = workflow["metadata"]["uid"].as_str().expect("a uid");

    let made = scene.execution("payment-api-workflow-step-2").await;
    let mut without_additions = json!({
        "apiVersion": made["apiVersion"], "kind": made["kind"], "spec": made["spec"],
        "metadata": {"name": made["metadata"]["name"], "namespace": made["metadata"]["namespace"],
                     "ownerReferences": made["metadata"]["ownerReferences"]},
    });
    let fields = without_additions["spec"].as_object_mut().expect("fields");
    assert_eq!(fields.remove("serviceAccountName"), Some(json!("default")));
    let owner = without_additions["metadata"]["ownerReferences"][0]
        .as_object_mut()
        .expect("an owner");
    assert_eq!(owner.remove("blockOwnerDeletion"), Some(json!(true)));
    let design: Value = serde_saphyr::from_str(&DESIGN.replace("xyz789", uid)).expect("YAML");
    assert_eq!(without_additions, design, "{}", pretty(&made));

    assert_eq!(
        phases(&made),
        [
            "validating",
            "validated",
            "executing",
            "rollback_ready",
            "completed"
        ]
    );
    assert_eq!(
        phases(&workflow),
        ["planning", "validating", "executing", "monitoring", "completed"]
    );
    assert_eq!(
        made["metadata"]["labels"],
        json!({"kubernaut.io/workflow": "payment-api-workflow", "kubernaut.io/step-number": "2",
               "kubernaut.io/action": "scale-deployment"})
    );
    assert_eq!(
        made["metadata"]["annotations"],
        json!({"kubernaut.io/correlation-id": uid})
    );
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["kubernetesexecution.kubernaut.io/kubernetesexecution-cleanup"])
    );
    assert_eq!(scene.get(DEPLOYMENT, "payment-api").await["spec"]["replicas"], 5);
    the_job_is_the_recorded_one(&scene, &made, uid).await;
}

async fn the_job_is_the_recorded_one(scene: &Scene<'_>, execution: &Value, correlation: &str) {
    let attempt = &execution["status"]["attempts"][0];
    let name = attempt["jobName"].as_str().expect("a Job");
    assert!(name.starts_with("payment-api-workflow-step-2-"), "{name}");
    let job = api(&scene.client, JOB, EXECUTOR)
        .get(name)
        .await
        .expect("the Job");
    let job = serde_json::to_value(job).expect("JSON");
    assert_eq!(
        job["metadata"]["annotations"]["kubernaut.io/job-hash"],
        attempt["jobHash"]
    );
    assert_eq!(
        job["metadata"]["annotations"]["kubernaut.io/correlation-id"],
        correlation
    );
    let expected = [
        (
            "execution-uid",
            execution["metadata"]["uid"].as_str().expect("a uid"),
        ),
        ("execution-name", "payment-api-workflow-step-2"),
        ("execution-namespace", "production"),
        ("action", "scale-deployment"),
        ("attempt", "1"),
        ("workflow", "payment-api-workflow"),
    ];
    let template = &job["spec"]["template"];
    for (label, value) in expected {
        let label = format!("kubernaut.io/{label}");
        assert_eq!(job["metadata"]["labels"][&label], value, "{label} of the Job");
        assert_eq!(
            template["metadata"]["labels"][&label], value,
            "{label} of the pod"
        );
    }
    assert_eq!(template["spec"]["serviceAccountName"], "scale-deployment-sa");
    assert_eq!(job["spec"]["backoffLimit"], 0);
    let run = scene
        .bed
        .cluster
        .kubelet
        .runs()
        .into_iter()
        .find(|run| run.pod.starts_with(name))
        .expect("a run of kubectl");
    assert_eq!(
        run.argv[..4],
        [
            "kubectl",
            "scale",
            "deployment/payment-api",
            "--namespace=production"
        ]
    );
}

#[tokio::test]
async fn the_sample_runs_as_it_comes() {
    let bed = bed().await;
    let sample = include_str!("../../../deploy/samples/scale-and-restart.yaml");
    // Rights are what a cluster asks for besides: the sample's account gets them here.
    let scene = Scene::new(bed, "shop").await;
    bed.cluster.apply_yaml(sample).await.expect("accepted");
    scene.succeeded("checkout-under-load").await;
    let deployment = scene.get(DEPLOYMENT, "checkout").await;
    assert_eq!(deployment["spec"]["replicas"], 5);
    assert_eq!(deployment["status"]["readyReplicas"], 5);
    let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
    let restart = scene.execution("checkout-under-load-step-3").await;
    assert_eq!(
        annotations["kubernaut.io/restarted-by"],
        restart["metadata"]["uid"]
    );
    assert_eq!(
        scene.get(CONFIG_MAP, "checkout").await["data"],
        json!({"timeout": "10s", "log-level": "info"})
    );
}

#[tokio::test]
async fn an_execution_made_by_hand_runs_without_a_workflow() {
    let scene = Scene::new(bed().await, "by-hand").await;
    scene.deployment("web", 1).await;
    let parameters = json!({"scaleDeployment": {"namespace": "by-hand", "deployment": "web", "replicas": 2}});
    scene
        .create(execution("scale-web", "scale-deployment", parameters, json!({})))
        .await;
    let ended = scene.execution_ended("scale-web").await;
    assert_eq!(ended["status"]["phase"], "completed", "{}", pretty(&ended));
    assert_eq!(scene.get(DEPLOYMENT, "web").await["spec"]["replicas"], 2);
    assert_eq!(
        ended["metadata"]["finalizers"],
        json!(["kubernetesexecution.kubernaut.io/kubernetesexecution-cleanup"])
    );
    assert_eq!(
        ended["status"]["rollbackInformation"]["rollbackParameters"]["scaleToPrevious"]["previousReplicas"],
        1
    );
    let only = scene
        .bed
        .cluster
        .run_kubectl(&[
            "wait",
            "ke/scale-web",
            "--namespace=by-hand",
            "--for=condition=Succeeded",
            "--timeout=5s",
        ])
        .await;
    assert!(only.is_ok(), "{only:?}");
}

#[tokio::test]
async fn a_workflow_that_ended_is_deleted_when_its_time_is_over() {
    let scene = Scene::new(bed().await, "ttl").await;
    scene.config_map("settings", json!({"a": "1"})).await;
    let update =
        json!({"updateConfigMap": {"namespace": "ttl", "name": "settings", "dataUpdates": {"a": "2"}}});
    scene
        .start(
            "short-lived",
            json!([step(1, "update-configmap", update, json!({}))]),
            json!({"ttlSecondsAfterFinished": 3}),
        )
        .await;
    scene.succeeded("short-lived").await;
    scene
        .eventually("the workflow and its execution are gone", async || {
            let workflow = scene
                .find("workflow.kubernaut.io/v1/WorkflowExecution", "short-lived")
                .await;
            let execution = scene
                .find(
                    "kubernetesexecution.kubernaut.io/v1/KubernetesExecution",
                    "short-lived-step-1",
                )
                .await;
            (workflow.is_none() && execution.is_none() && scene.jobs().await.is_empty()).then_some(())
        })
        .await;
    assert_eq!(scene.get(CONFIG_MAP, "settings").await["data"]["a"], "2");
}

#[tokio::test]
async fn a_step_for_another_cluster_is_refused() {
    let scene = Scene::new(bed().await, "elsewhere").await;
    scene.config_map("settings", json!({"a": "1"})).await;
    let update =
        json!({"updateConfigMap": {"namespace": "elsewhere", "name": "settings", "dataUpdates": {"a": "2"}}});
    let steps = json!([step(
        1,
        "update-configmap",
        update,
        json!({"targetCluster": "staging"})
    )]);
    scene.start("for-staging", steps, json!({})).await;
    let ended = scene.ended("for-staging").await;
    assert_eq!(ended["status"]["errorType"], "validation_error");
    let reason = ended["status"]["failureReason"].as_str().expect("a reason");
    assert!(
        reason.contains("staging") && reason.contains("production-cluster"),
        "{reason}"
    );
    assert_eq!(scene.get(CONFIG_MAP, "settings").await["data"]["a"], "1");
}
