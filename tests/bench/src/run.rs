//! One engine, one load, one control plane of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kubernaut_testbed::{
    ControlPlane, ControlPlaneOptions, FakeKubelet, FakeKubeletOptions, Part, PodScript,
};
use serde::Serialize;
use tokio::process::{Child, Command};

use crate::engine::{Engine, Running};
use crate::shapes::Steps;
use crate::{BenchError, audit, io, processes};

/// What is asked of an engine.
pub(crate) struct Load {
    pub(crate) name: String,
    pub(crate) steps: Steps,
    pub(crate) workflows: usize,
    pub(crate) pod_time: Duration,
    pub(crate) kills: u32,
    pub(crate) timeout: Duration,
}

/// Where the API server's CPU goes: how long it is looked at, and the file for that.
pub(crate) struct Profile {
    pub(crate) seconds: u64,
    pub(crate) file: PathBuf,
}

/// What it took.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    pub(crate) engine: String,
    pub(crate) load: String,
    pub(crate) steps: usize,
    /// Seconds from the first create to the end of the last workflow.
    pub(crate) makespan: f64,
    /// Own requests a step.
    pub(crate) writes: f64,
    pub(crate) events: f64,
    pub(crate) reads: f64,
    pub(crate) reviews: f64,
    /// Answers of the server's own faults, and those that asked to slow down.
    pub(crate) refused: u64,
    /// Own requests a step, by verb and resource.
    pub(crate) requests: BTreeMap<String, f64>,
    /// All users' requests a step, by verb and resource.
    pub(crate) everybody: BTreeMap<String, f64>,
    /// Seconds of CPU for 1,000 steps: the engine's, and with it those of the API server, etcd and the controller manager.
    pub(crate) own_cpu: f64,
    pub(crate) all_cpu: f64,
    pub(crate) cpu_by_process: BTreeMap<String, f64>,
    /// MiB of the engine: at its most, and before anything was asked of it.
    pub(crate) peak: f64,
    pub(crate) idle: f64,
    /// Milliseconds from the end of a pod to that of the next step: the median, and what one in twenty is above.
    pub(crate) pod_to_pod_median: Option<f64>,
    pub(crate) pod_to_pod_p95: Option<f64>,
    /// Steps that ran more than once.
    pub(crate) repeated: u64,
    /// How much of this machine's processors others used meanwhile, from 0 to 1: above a twentieth the run is noisy.
    pub(crate) others: f64,
}

const PARTS: [(&str, Part); 3] = [
    ("apiserver", Part::ApiServer),
    ("etcd", Part::Etcd),
    ("controllerManager", Part::ControllerManager),
];
/// How often it is asked whether all is done.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Workflows before those that count: connections, caches, compiled rules.
const WARM_UP: usize = 3;

/// Runs it.
///
/// # Errors
/// The control plane or the engine does not do its part, or not in time.
pub(crate) async fn run(
    engine: &Engine,
    load: &Load,
    without: &[String],
    profile: Option<Profile>,
) -> Result<Outcome, BenchError> {
    let mut scene = begin(engine, load, without, profile.is_some()).await?;
    let pid = |running: &Running| running.child.id().unwrap_or_default();
    let mut family = processes::family(pid(&scene.running));
    let idle = processes::resident_mib(&family);
    let from = std::fs::metadata(scene.cluster.audit_log())
        .map_err(|e| io("finding the audit log", e))?
        .len();
    let before = cpu(&scene.cluster)?;
    let mut own = -processes::cpu_seconds(&family);
    let machine = Machine::now();

    let begun = Instant::now();
    let profiled = profile
        .map(|profile| take(&scene.cluster, &profile, Duration::from_secs(3)))
        .transpose()?;
    engine
        .submit(&scene.cluster, WARM_UP, load.workflows, &load.steps)
        .await?;
    for _ in 0..load.kills {
        tokio::time::sleep(Duration::from_secs(4)).await;
        family = processes::family(pid(&scene.running));
        own += processes::cpu_seconds(&family);
        scene
            .running
            .child
            .kill()
            .await
            .map_err(|e| io("killing the engine", e))?;
        scene.running = engine.start(&scene.cluster, scene.port).await?;
    }
    wait_until_done(engine, &scene.cluster, load.timeout).await?;
    let makespan = begun.elapsed().as_secs_f64();
    if let Some(mut profiled) = profiled {
        profiled
            .wait()
            .await
            .map_err(|e| io("waiting for the profile", e))?;
    }
    // What is told afterwards counts as well.
    quiet(&scene.cluster).await;

    family = processes::family(pid(&scene.running));
    own += processes::cpu_seconds(&family);
    let after = cpu(&scene.cluster)?;
    let thousands = to_f64(load.workflows * load.steps.len()) / 1000.0;
    let mut cpu_by_process: BTreeMap<String, f64> = PARTS
        .iter()
        .zip(before.iter().zip(&after))
        .map(|((name, _), (before, after))| ((*name).to_owned(), (after - before) / thousands))
        .collect();
    cpu_by_process.insert("engine".to_owned(), own / thousands);
    let requests = audit::read(&scene.cluster.audit_log(), from, &scene.running.user, &load.steps)
        .map_err(|e| io("reading the audit log", e))?;
    let steps = load.workflows * load.steps.len();
    let a_step = |count: u64| to_f64(usize::try_from(count).unwrap_or(usize::MAX)) / to_f64(steps);
    // What fails at once is not fast.
    if requests.ran < steps {
        return Err(BenchError::Engine(format!(
            "{} ended all workflows of {}, but only {} of {steps} steps ran",
            engine.name(),
            load.name,
            requests.ran
        )));
    }
    let by_kind = |counts: &BTreeMap<String, u64>| {
        let of_one = |(what, count): (&String, &u64)| (what.clone(), a_step(*count));
        counts.iter().map(of_one).collect::<BTreeMap<String, f64>>()
    };
    let mut times = requests.pod_to_pod.clone();
    times.sort_by(f64::total_cmp);
    Ok(Outcome {
        engine: engine.name(),
        load: load.name.clone(),
        steps,
        makespan,
        writes: a_step(requests.writes()),
        events: a_step(requests.events()),
        reads: a_step(requests.reads()),
        reviews: a_step(requests.reviews()),
        refused: requests.refused,
        requests: by_kind(&requests.counts),
        everybody: by_kind(&requests.everybody),
        own_cpu: own / thousands,
        all_cpu: cpu_by_process.values().sum(),
        cpu_by_process,
        peak: processes::peak_mib(&family),
        idle,
        pod_to_pod_median: times.get(times.len() / 2).copied(),
        pod_to_pod_p95: times.get(times.len() * 19 / 20).copied(),
        repeated: requests.repeated,
        others: machine.others_since(),
    })
}

/// An engine at work. Fields are dropped in their order: what talks to the control plane goes before it.
struct Scene {
    running: Running,
    _kubelet: FakeKubelet,
    cluster: ControlPlane,
    port: u16,
}

/// Starts all of it, and has it run a few workflows that do not count.
async fn begin(
    engine: &Engine,
    load: &Load,
    without: &[String],
    is_profiled: bool,
) -> Result<Scene, BenchError> {
    let cluster = ControlPlane::start(ControlPlaneOptions {
        audit_log: true,
        apiserver_args: profiling(is_profiled),
        ..ControlPlaneOptions::default()
    })
    .await?;
    let pod_time = load.pod_time;
    let options = FakeKubeletOptions {
        nodes: 10,
        ..FakeKubeletOptions::default()
    };
    let ends_well = move |_: &_| Some(PodScript::Succeed { after: pod_time });
    let kubelet = FakeKubelet::start(&cluster, options.with_script(ends_well)).await?;
    engine.install(&cluster, without).await?;
    engine
        .prepare(&cluster, WARM_UP + load.workflows, &load.steps)
        .await?;
    let port = unused_port()?;
    let running = engine.start(&cluster, port).await?;
    engine.submit(&cluster, 0, WARM_UP, &load.steps).await?;
    wait_until_done(engine, &cluster, load.timeout).await?;
    quiet(&cluster).await;
    Ok(Scene {
        running,
        _kubelet: kubelet,
        cluster,
        port,
    })
}

/// The flags of an API server that can be profiled.
pub(crate) fn profiling(is_profiled: bool) -> Vec<String> {
    let flag = is_profiled.then(|| "--profiling=true".to_owned());
    flag.into_iter().collect()
}

/// Begins to take a profile, so much later.
pub(crate) fn take(cluster: &ControlPlane, profile: &Profile, later: Duration) -> Result<Child, BenchError> {
    let directory = profile.file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(|e| io("making the directory of the profile", e))?;
    let file = File::create(&profile.file).map_err(|e| io("making the file of the profile", e))?;
    let url = format!("/debug/pprof/profile?seconds={}", profile.seconds);
    Command::new("sh")
        .args(["-c", "sleep \"$2\"; exec \"$0\" get --raw \"$1\""])
        .arg(cluster.kubectl())
        .arg(url)
        .arg(later.as_secs().to_string())
        .env("KUBECONFIG", cluster.admin_kubeconfig())
        .stdout(file)
        .spawn()
        .map_err(|e| io("asking for a profile", e))
}

pub(crate) async fn wait_until_done(
    engine: &Engine,
    cluster: &ControlPlane,
    timeout: Duration,
) -> Result<(), BenchError> {
    let begun = Instant::now();
    while engine.left(cluster).await? > 0 {
        if begun.elapsed() > timeout {
            let log = std::fs::read_to_string(cluster.state_dir().join("engine.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(5).collect();
            return Err(BenchError::Engine(format!(
                "{}: not done in {} s; its log ends with\n{}",
                engine.name(),
                timeout.as_secs(),
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            )));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Returns when the API server has little to do, after a minute at the latest.
pub(crate) async fn quiet(cluster: &ControlPlane) {
    let mut calm = 0;
    for _ in 0..60 {
        let before = cpu(cluster).unwrap_or_default().iter().sum::<f64>();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let used = cpu(cluster).unwrap_or_default().iter().sum::<f64>() - before;
        calm = if used < 0.15 { calm + 1 } else { 0 };
        if calm == 2 {
            return;
        }
    }
}

fn cpu(cluster: &ControlPlane) -> Result<Vec<f64>, BenchError> {
    let seconds = |part: &(&str, Part)| Ok(processes::cpu_seconds(&[cluster.pid(part.1)?]));
    PARTS.iter().map(seconds).collect()
}

/// The processors of this machine, and what this call and all that it started have used of them.
struct Machine {
    at: Instant,
    busy: f64,
    ours: f64,
}

impl Machine {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            busy: processes::busy_seconds(),
            ours: processes::cpu_seconds(&processes::family(std::process::id())),
        }
    }

    fn others_since(&self) -> f64 {
        let now = Self::now();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let whole = now.at.duration_since(self.at).as_secs_f64() * to_f64(processors);
        ((now.busy - self.busy - (now.ours - self.ours)) / whole).max(0.0)
    }
}

pub(crate) fn unused_port() -> Result<u16, BenchError> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    Ok(listener.map_err(|e| io("finding a port", e))?.port())
}

/// Counts here are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "counts of steps")]
pub(crate) fn to_f64(count: usize) -> f64 {
    count as f64
}
