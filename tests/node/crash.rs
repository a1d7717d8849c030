//! A controller that is killed while real kubelets run its Jobs.

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
    let last = names.last().expect("a name");
    let works = async || scene.workflow(last).await["status"]["phase"] != "completed";
    let unfinished = bed.kill_at_random(KILLS, 100..1000, works).await;
    all_is_done_once(&scene, &names).await;
    println!("{unfinished} of {KILLS} kills met work under way");
    assert!(
        unfinished >= KILLS / 2,
        "only {unfinished} of the kills met work under way"
    );
}
