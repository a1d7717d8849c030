//! Many workflows at once, one of them unreadable: all the others complete, and what that costs.

// Counts that are far below 2^52.
#![allow(clippy::cast_precision_loss)]

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::audit::{forbidden, jobs_made};
use crate::bed::{Bed, BedOptions, CONTROLLER, established};
use crate::crash::chain;
use crate::scene::{Scene, api};

/// Workflows of five steps; `KUBERNAUT_LOAD` sets another number.
const WORKFLOWS: usize = 20;
const STEPS: usize = 5;

const CRD: &str = "apiextensions.k8s.io/v1/CustomResourceDefinition";
const CRD_NAME: &str = "workflowexecutions.workflow.kubernaut.io";
const BINDING: &str = "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicyBinding";

/// Stores a WorkflowExecution whose spec no type can read: while its CRD lets everything pass, and without the policy that asks
/// for steps.
async fn store_an_unreadable_workflow(scene: &Scene<'_>) {
    let crds = api(&scene.client, CRD, "");
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let strict = scene.get(CRD, CRD_NAME).await;
    let strict = strict.pointer(spec).expect("a schema").clone();
    let set = async |schema: Value| {
        let mut crd = crds.get(CRD_NAME).await.expect("the CRD");
        *crd.data.pointer_mut(spec).expect("a schema") = schema;
        crds.replace(CRD_NAME, &PostParams::default(), &crd)
            .await
            .expect("replaced");
        established(&scene.bed.cluster, CRD_NAME).await;
    };
    set(json!({"x-kubernetes-preserve-unknown-fields": true})).await;
    api(&scene.client, BINDING, "")
        .delete("kubernaut-workflow-spec", &DeleteParams::default())
        .await
        .expect("deleted");
    scene
        .eventually("an unreadable workflow", async || {
            let object = json!({"apiVersion": "workflow.kubernaut.io/v1", "kind": "WorkflowExecution",
                "metadata": {"name": "unreadable"}, "spec": {"workflowDefinition": "nonsense"}});
            scene.try_create(object).await.ok()
        })
        .await;
    set(strict).await;
}

/// Seconds of CPU and the peak of resident memory in MiB.
pub(crate) fn cost_of(pid: u32) -> (f64, f64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let after = stat
        .rsplit(')')
        .next()
        .expect("fields")
        .split_whitespace()
        .collect::<Vec<_>>();
    let ticks = |index: usize| after[index].parse::<f64>().expect("a number");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("VmHWM");
    let peak: f64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    ((ticks(11) + ticks(12)) / 100.0, peak / 1024.0)
}

/// The median of single writes, one after the other: what a write costs on this machine now.
async fn round_trip(scene: &Scene<'_>) -> Duration {
    scene.config_map("round-trip", json!({})).await;
    let maps = scene.api("v1/ConfigMap");
    let mut times = Vec::new();
    for number in 0..100 {
        let patch = json!({"data": {"n": number.to_string()}});
        let begun = Instant::now();
        maps.patch("round-trip", &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .expect("written");
        times.push(begun.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one scene")]
async fn many_workflows_at_once_complete_beside_one_that_can_not_be_read() {
    let count = std::env::var("KUBERNAUT_LOAD")
        .ok()
        .map_or(WORKFLOWS, |n| n.parse().expect("KUBERNAUT_LOAD: a number"));
    let bed = Bed::start(BedOptions::default()).await;
    let scene = Scene::new(&bed, "load").await;
    let (idle_cpu, idle_memory) = cost_of(bed.controller_pid());
    store_an_unreadable_workflow(&scene).await;
    let round_trip = round_trip(&scene).await;
    for number in 0..count {
        scene.config_map(&format!("flow-{number}"), json!({})).await;
    }
    let begun = Instant::now();
    for number in 0..count {
        let name = format!("flow-{number}");
        let steps = chain("load", &name, i64::try_from(STEPS).expect("few"));
        scene.start(&name, steps, json!({})).await;
    }
    let workflows = scene.api("workflow.kubernaut.io/v1/WorkflowExecution");
    loop {
        let list = workflows
            .list(&kube::api::ListParams::default().fields("status.phase=completed"))
            .await;
        if list.expect("a list").items.len() == count {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60 + 3 * count as u64),
            "{}",
            bed.log_about("load")
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let took = begun.elapsed();
    // Events come after the steps, when there is time for them.
    let published = || {
        let audit = bed.audit();
        audit
            .iter()
            .filter(|entry| {
                entry["user"]["username"] == CONTROLLER && entry["objectRef"]["resource"] == "events"
            })
            .count()
    };
    let mut known = 0;
    while known < published() {
        known = published();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let (cpu, memory) = cost_of(bed.controller_pid());

    let audit = bed.audit();
    let own = || {
        audit
            .iter()
            .filter(|entry| entry["user"]["username"] == CONTROLLER)
    };
    let requests_with = |verbs: &[&str], events: bool| {
        own()
            .filter(|entry| (entry["objectRef"]["resource"] == "events") == events)
            // Those of the lease are a matter of time, not of steps.
            .filter(|entry| entry["objectRef"]["resource"] != "leases")
            .filter(|entry| verbs.contains(&entry["verb"].as_str().unwrap_or_default()))
            .count() as f64
    };
    let steps = (count * STEPS) as f64;
    let writes = requests_with(&["create", "update", "patch", "delete"], false);
    let reviews = own()
        .filter(|entry| entry["objectRef"]["resource"] == "subjectaccessreviews")
        .count() as f64;
    let workflow_writes = own()
        .filter(|entry| entry["objectRef"]["resource"] == "workflowexecutions" && entry["verb"] == "patch")
        .count() as f64;
    let step_writes = (writes - reviews - workflow_writes) / steps;
    let reads = (requests_with(&["get"], false) + reviews) / steps;
    println!(
        "{count} workflows of {STEPS} steps in {:.1} s; round trip {:.1} ms; controller: {:.2} s CPU ({:.2} s per 1,000 steps), \
         peak {memory:.1} MiB (idle {idle_memory:.1}); per step: {step_writes:.2} writes, {:.2} of its workflow, {reads:.2} reads, \
         {:.2} events; lists {}",
        took.as_secs_f64(),
        round_trip.as_secs_f64() * 1000.0,
        cpu - idle_cpu,
        (cpu - idle_cpu) / steps * 1000.0,
        workflow_writes / steps,
        requests_with(&["create"], true) / steps,
        requests_with(&["list"], false),
    );
    let made = jobs_made(&audit);
    let odd: Vec<&Value> = own()
        .filter(|entry| entry["objectRef"]["resource"] == "jobs" && entry["verb"] != "watch")
        .filter(|entry| entry["responseStatus"]["code"] != 201)
        .collect();
    assert_eq!(
        made.len(),
        count * STEPS,
        "one Job for each step; other calls: {odd:?}"
    );
    assert!(step_writes <= 5.0, "{step_writes} writes a step");
    assert!(reads <= 5.0, "{reads} reads a step");
    assert_eq!(forbidden(&audit), Vec::<String>::new());

    let events = scene.list("events.k8s.io/v1/Event", "").await;
    let warned = events
        .iter()
        .any(|event| event["regarding"]["name"] == "unreadable" && event["type"] == "Warning");
    assert!(warned, "nobody was told of the unreadable object");
}
