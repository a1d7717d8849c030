//! What the tests of this tier do in a cluster.

use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use kube::{Api, Client};
use kubernaut_testbed::{Cluster, ClusterOptions, ControlPlaneOptions};

/// What takes a second on an idle machine may take many when others compile.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A cluster of its own for one test: nothing in it needs to be told from another test's.
pub(crate) async fn cluster(nodes: usize) -> Cluster {
    cluster_with(nodes, ControlPlaneOptions::default()).await
}

pub(crate) async fn cluster_with(nodes: usize, control_plane: ControlPlaneOptions) -> Cluster {
    let options = ClusterOptions { nodes, control_plane };
    Cluster::start(options).await.expect("a cluster")
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {TIMEOUT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn client(cluster: &Cluster) -> Client {
    cluster.admin_client().await.expect("a client")
}

/// Makes a Deployment of the web image, and returns when all its pods are ready.
pub(crate) async fn deploy_web(cluster: &Cluster, replicas: usize) {
    let yaml = WEB.replace("REPLICAS", &replicas.to_string());
    cluster.apply_yaml(&yaml).await.expect("a Deployment");
    cluster
        .run_kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])
        .await
        .expect("all pods ready");
}

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: kubernaut.test/web:1
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.80, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

/// Returns how a Job ended: the type of its condition, Complete or Failed.
pub(crate) async fn end_of_job(client: &Client, namespace: &str, name: &str) -> String {
    let jobs = Api::<Job>::namespaced(client.clone(), namespace);
    eventually("the Job has ended", async || {
        let status = jobs.get(name).await.expect("a Job").status?;
        let mut conditions = status.conditions?.into_iter();
        let ended = conditions.find(|condition| {
            condition.status == "True" && ["Complete", "Failed"].contains(&condition.type_.as_str())
        });
        ended.map(|condition| condition.type_)
    })
    .await
}
