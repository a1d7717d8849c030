//! A controller that is killed while real kubelets run its Jobs.

use std::time::{Duration, SystemTime};

use crate::bed::{Bed, BedOptions};
use crate::scene::Scene;
use crate::work::{all_is_done_once, start_workflows};

const WORKFLOWS: usize = 3;
const KILLS: usize = 10;

#[tokio::test]
async fn a_controller_killed_at_ten_random_moments_makes_no_job_and_no_effect_twice() {
    let bed = Bed::start(BedOptions {
        // A lease would make each new one wait until the killed one's has run out.
        controller_flags: &["--leader-elect=false"],
        ..BedOptions::default()
    })
    .await;
    let scene = Scene::new(&bed, "crash").await;
    let names = start_workflows(&scene, WORKFLOWS).await;
    let seed = SystemTime::UNIX_EPOCH.elapsed().expect("a time").subsec_nanos();
    println!("seed {seed}");
    let mut random = u64::from(seed);
    let mut unfinished = 0;
    for _ in 0..KILLS {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis(100 + (random >> 33) % 900)).await;
        bed.kill_controller();
        let last = scene.workflow(names.last().expect("a name")).await;
        unfinished += usize::from(last["status"]["phase"] != "completed");
        bed.spawn_controller();
    }
    all_is_done_once(&scene, &names).await;
    println!("{unfinished} of {KILLS} kills met work under way");
    assert!(
        unfinished >= KILLS / 2,
        "only {unfinished} of the kills met work under way"
    );
}
