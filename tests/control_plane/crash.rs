//! A controller that is killed at any moment loses nothing and repeats nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kubernaut_testbed::PodScript;
use serde_json::{Value, json};

use crate::audit::{effects_in, forbidden, jobs_made};
use crate::bed::{Bed, BedOptions};
use crate::scene::{CONFIG_MAP, Scene, step};

const WORKFLOWS: usize = 10;
const STEPS: i64 = 4;
const KILLS: usize = 20;

/// Slow enough that the kills meet work under way.
#[expect(clippy::unnecessary_wraps, reason = "the form that a bed takes")]
pub(crate) fn slowly(_: &Pod) -> Option<PodScript> {
    Some(PodScript::RunAfter(Duration::from_millis(1500)))
}

/// A chain of steps, each of which sets a key of one ConfigMap.
pub(crate) fn chain(namespace: &str, name: &str, steps: i64) -> Value {
    let step = |number: i64| {
        let update = json!({"updateConfigMap": {"namespace": namespace, "name": name,
                            "dataUpdates": {format!("key-{number}"): format!("value-{number}")}}});
        let before: Vec<i64> = (1..number).next_back().into_iter().collect();
        step(number, "update-configmap", update, json!({"dependsOn": before}))
    };
    (1..=steps).map(step).collect()
}

#[tokio::test]
async fn a_controller_killed_at_twenty_random_moments_loses_nothing_and_repeats_nothing() {
    let options = BedOptions {
        script: slowly,
        // A lease would make each new one wait until the killed one's has run out.
        controller_flags: &["--leader-elect=false"],
        ..BedOptions::default()
    };
    let bed = Bed::start(options).await;
    let scene = Scene::new(&bed, "crash").await;
    let names: Vec<String> = (0..WORKFLOWS).map(|n| format!("flow-{n}")).collect();
    for name in &names {
        scene.config_map(name, json!({})).await;
    }
    for name in &names {
        scene.start(name, chain("crash", name, STEPS), json!({})).await;
    }

    let last = names.last().expect("a name");
    let works = async || scene.workflow(last).await["status"]["phase"] != "completed";
    let unfinished = bed.kill_at_random(KILLS, 50..950, works).await;
    for name in &names {
        scene.succeeded(name).await;
        let data = &scene.get(CONFIG_MAP, name).await["data"];
        for number in 1..=STEPS {
            assert_eq!(data[format!("key-{number}")], format!("value-{number}"), "{name}");
            let execution = scene.execution(&format!("{name}-step-{number}")).await;
            assert_eq!(
                execution["status"]["attempts"].as_array().map(Vec::len),
                Some(1),
                "{execution}"
            );
        }
    }
    assert!(
        unfinished >= KILLS / 2,
        "only {unfinished} of the kills met work under way"
    );

    let audit = bed.audit();
    let made = jobs_made(&audit);
    let distinct: BTreeSet<&String> = made.iter().collect();
    assert_eq!(distinct.len(), made.len(), "a Job was made twice: {made:?}");
    // A create that was cut off by a kill may be there without an answer of 201: the Jobs themselves are counted.
    let total = WORKFLOWS * usize::try_from(STEPS).expect("few");
    assert_eq!(scene.jobs().await.len(), total, "one Job for each step");
    let runs = bed.cluster.kubelet.runs();
    let pods: BTreeSet<&String> = runs.iter().map(|run| &run.pod_uid).collect();
    assert_eq!(
        (runs.len(), pods.len()),
        (total, total),
        "kubectl ran once for each Job"
    );
    assert_eq!(
        effects_in(&audit, "crash").len(),
        total,
        "one effect for each step"
    );
    assert_eq!(forbidden(&audit), Vec::<String>::new());
}
