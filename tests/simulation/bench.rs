//! How many simulated workflows of five steps a core runs in a second, as asked for and with things going wrong:
//! `cargo bench --bench simulation`. Reference: a bare round trip of one write to the embedded cluster.

// The search uses more of it.
#[allow(dead_code)]
mod worlds;

use std::time::Duration;

use clap::ValueEnum as _;
use divan::Bencher;
use divan::counter::ItemsCount;
use embedded_cluster::{EmbeddedCluster, EmbeddedOptions, PodHabits, Rbac, User};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use kubernaut::rehearsal::simulation::{FaultKind, Scenario, SeededRng, plan, simulate};

fn main() {
    divan::main();
}

/// One workflow of exactly five steps.
fn scenario(installed: &EmbeddedCluster, seed: u64, faults: u64) -> Scenario {
    let mut chance = SeededRng::new(seed);
    let plan = plan(FaultKind::value_variants(), faults, &mut chance);
    Scenario {
        installed: installed.clone(),
        world: Vec::new(),
        runs: vec![worlds::workflow("five", 5, &mut chance)],
        options: worlds::options(None),
        rbac: Rbac::AllowAll,
        plan,
        pod_run_time: Duration::from_secs(2),
        habits: PodHabits::default(),
        seed,
        patience: Duration::from_hours(1),
        rest: Duration::from_mins(3),
    }
}

#[divan::bench(args = [0, 5], sample_count = 60, sample_size = 4)]
fn workflows_of_five_steps(bencher: Bencher, faults: u64) {
    let installed = worlds::installed();
    let mut seed = 0;
    bencher
        .counter(ItemsCount::new(1_u32))
        .with_inputs(|| {
            seed += 1;
            scenario(&installed, seed, faults)
        })
        .bench_local_values(|scenario| simulate(&scenario).expect("a run"));
}

#[divan::bench]
fn one_write(bencher: Bencher) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    let cluster = EmbeddedCluster::new(EmbeddedOptions::default());
    let api: Api<ConfigMap> = Api::namespaced(cluster.client(User::admin()), "default");
    let mut number = 0;
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        number += 1;
        let mut object = ConfigMap::default();
        object.metadata.name = Some(format!("one-{number}"));
        runtime
            .block_on(api.create(&PostParams::default(), &object))
            .expect("created")
    });
}
