//! The label that a drain passes over.

use serde_json::{Value, json};

use super::backend::{TEAM, developer, ground, pod, pod_spec};
use super::way::{all_are_refused, create, patch, patch_part, way};
use crate::scene::{POD, merge};

#[tokio::test]
async fn nobody_keeps_a_pod_from_being_drained_by_the_executors_label() {
    ground().await;
    let marked = || json!({"metadata": {"labels": {"kubernaut.io/execution-uid": "1-2-3"}}});
    let workload = |kind: &str, api_version: &str, spec: Value| json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "own", "namespace": TEAM}, "spec": spec});
    let template = |more: Value| {
        let mut template = json!({"metadata": {"labels": {"app": "own"}}, "spec": pod_spec()});
        merge(&mut template, more);
        template
    };
    let deployment = |more: Value| {
        let mut template = template(more);
        template["spec"]["restartPolicy"] = json!("Always");
        let spec = json!({"selector": {"matchLabels": {"app": "own"}}, "template": template});
        create(workload("Deployment", "apps/v1", spec))
    };
    let job = |more: Value| create(workload("Job", "batch/v1", json!({"template": template(more)})));
    let labelled_job = |more: Value| {
        let mut job = workload("Job", "batch/v1", json!({"template": template(json!({}))}));
        merge(&mut job, more);
        create(job)
    };
    let cron_job = |more: Value| {
        let spec = json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template(more)}}});
        create(workload("CronJob", "batch/v1", spec))
    };
    let words = "which a drain passes over: use another label";
    let ways = vec![
        way(
            "a developer creates a pod with it",
            create(pod(TEAM, "marked", marked())),
            words,
            "a developer creates a pod",
            create(pod(TEAM, "unmarked", json!({}))),
        ),
        way(
            "a developer puts it on a pod that runs",
            patch(POD, TEAM, "own", marked()),
            words,
            "a developer puts another label on it",
            patch(
                POD,
                TEAM,
                "own",
                json!({"metadata": {"labels": {"example.com/a": "b"}}}),
            ),
        ),
        way(
            "a developer writes it into a Deployment",
            deployment(marked()),
            words,
            "a developer creates a Deployment",
            deployment(json!({})),
        ),
        way(
            "a developer writes it into the template of a Job",
            job(marked()),
            words,
            "a developer creates a Job",
            job(json!({})),
        ),
        way(
            "a developer puts it on a Job",
            labelled_job(marked()),
            words,
            "a developer labels a Job",
            labelled_job(json!({"metadata": {"labels": {"example.com/a": "b"}}})),
        ),
        way(
            "a developer writes it into a CronJob",
            cron_job(marked()),
            words,
            "a developer creates a CronJob",
            cron_job(json!({})),
        ),
    ];
    all_are_refused(&developer().await, ways).await;
    let through_status = vec![way(
        "an administrator puts it on a pod through its status",
        patch_part(POD, TEAM, "own", "status", marked()),
        words,
        "an administrator writes the status of a pod",
        patch_part(
            POD,
            TEAM,
            "own",
            "status",
            json!({"status": {"message": "looked at"}}),
        ),
    )];
    all_are_refused(&super::backend::administrator().await, through_status).await;
}
