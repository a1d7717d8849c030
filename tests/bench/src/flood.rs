//! What a namespace that asks for thousands of steps at once costs another one that asks for a few.

use std::path::Path;
use std::time::{Duration, Instant};

use kube::api::{Api, DynamicObject, PostParams};
use kubernaut_testbed::{ControlPlane, ControlPlaneOptions, FakeKubelet, FakeKubeletOptions, PodScript};
use serde::Serialize;

use crate::engine::{Engine, WORKFLOW, admit, prepare_in, resource_in, workflow};
use crate::run::{quiet, unused_port};
use crate::{BenchError, io, shapes};

/// Of all workflows here.
const SHAPE: &str = "dia8";
/// Where one workflow at a time is asked for.
const ASIDE: &str = "aside";
/// How often the other namespace asks.
const TIMES: usize = 3;
/// Longest time of one workflow.
const TIMEOUT: Duration = Duration::from_mins(10);

/// How long one workflow took.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    steps: usize,
    pod_seconds: f64,
    alone_seconds: Vec<f64>,
    flooded_seconds: Vec<f64>,
    /// Of the medians.
    ratio: f64,
}

/// Measures, prints a table, and writes it with the figures as JSON into `output`.
///
/// # Errors
/// The control plane or the controller does not do its part.
pub(crate) async fn run(
    program: &Path,
    steps: usize,
    pod_seconds: f64,
    output: &Path,
) -> Result<(), BenchError> {
    let engine = Engine::Ours {
        program: program.to_owned(),
        flags: Vec::new(),
    };
    let shape = shapes::steps(SHAPE).map_err(BenchError::Arguments)?;
    let flood = steps.div_ceil(shape.len());
    let cluster = ControlPlane::start(ControlPlaneOptions::default()).await?;
    let script = PodScript::Succeed {
        after: Duration::from_secs_f64(pod_seconds),
    };
    let nodes = FakeKubeletOptions {
        nodes: 2,
        ..FakeKubeletOptions::default()
    };
    let _kubelet = FakeKubelet::start(&cluster, nodes.with_script(move |_: &_| Some(script.clone()))).await?;
    engine.install(&cluster, &[]).await?;
    engine.prepare(&cluster, flood, &shape).await?;
    cluster.run_kubectl(&["create", "namespace", ASIDE]).await?;
    admit(&cluster, ASIDE).await?;
    prepare_in(&cluster, ASIDE, 2 * TIMES + 1, &shape).await?;
    let _running = engine.start(&cluster, unused_port()?).await?;
    quiet(&cluster).await;
    let aside = resource_in(&cluster, ASIDE, &WORKFLOW).await?;
    // The first one finds caches cold.
    one(&aside, 0, &shape).await?;
    let mut alone = Vec::new();
    for number in 1..=TIMES {
        alone.push(one(&aside, number, &shape).await?);
    }
    engine.submit(&cluster, 0, flood, &shape).await?;
    let mut flooded = Vec::new();
    for number in TIMES + 1..=2 * TIMES {
        flooded.push(one(&aside, number, &shape).await?);
    }
    let found = Found {
        steps,
        pod_seconds,
        ratio: median(&flooded) / median(&alone),
        alone_seconds: alone,
        flooded_seconds: flooded,
    };
    let text = format!(
        "| steps of the flood | seconds of a pod | one workflow beside it, s | alone, s | ratio |\n|---|---|---|---|---|\n\
         | {steps} | {pod_seconds} | {:.2} | {:.2} | {:.2} |\n",
        median(&found.flooded_seconds),
        median(&found.alone_seconds),
        found.ratio
    );
    println!("{text}");
    let failed = |error| io("writing the report", error);
    std::fs::create_dir_all(output).map_err(failed)?;
    std::fs::write(output.join("flood.md"), text).map_err(failed)?;
    std::fs::write(output.join("flood.json"), serde_json::to_vec_pretty(&found)?).map_err(failed)
}

/// Seconds from the creation of a workflow to its end.
async fn one(aside: &Api<DynamicObject>, number: usize, steps: &shapes::Steps) -> Result<f64, BenchError> {
    let asked = aside
        .create(&PostParams::default(), &workflow(ASIDE, number, steps)?)
        .await?;
    let name = asked.metadata.name.unwrap_or_default();
    let begun = Instant::now();
    loop {
        match aside.get(&name).await?.data["status"]["phase"].as_str() {
            Some("completed") => return Ok(begun.elapsed().as_secs_f64()),
            Some("failed") => return Err(BenchError::Engine(format!("workflow {name} failed"))),
            _ if begun.elapsed() > TIMEOUT => {
                return Err(BenchError::Engine(format!(
                    "workflow {name} has not ended within {TIMEOUT:?}"
                )));
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
