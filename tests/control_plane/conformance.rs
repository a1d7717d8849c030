//! The embedded cluster and a real API server are asked the same, and answer the same.

#[path = "../conformance/mod.rs"]
mod suite;

use std::thread;

use kubernaut_testbed::ControlPlane;
use tokio::sync::OnceCell;

use self::suite::{Case, Ground, Memory, Outcome};
use crate::bed::api_server;
use crate::installed::established;

/// The shared control plane, with the definition that the cases use.
async fn prepared() -> &'static ControlPlane {
    static DONE: OnceCell<()> = OnceCell::const_new();
    let control_plane = api_server().await;
    DONE.get_or_init(async || {
        let definition = suite::definition();
        control_plane
            .apply_yaml(&definition.to_string())
            .await
            .expect("accepted");
        let name = definition["metadata"]["name"].as_str().expect("a name");
        established(control_plane, name).await;
    })
    .await;
    control_plane
}

/// The outcomes in the embedded cluster, whose time is its own.
fn embedded(cases: Vec<Case>, time: usize) -> Vec<Outcome> {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async { suite::run(&Ground::Memory(Memory::new()), &cases, time).await })
    };
    thread::spawn(work).join().expect("no panic")
}

/// The controllers of a real cluster take their time, now more and now less: what differs for the third time differs.
async fn compare(cases: Vec<Case>) {
    let client = prepared().await.admin_client().await.expect("a client");
    let mut wrong = Vec::new();
    for time in 1..=3 {
        let real = suite::run(&Ground::Real(client.clone()), &cases, time).await;
        let memory = embedded(cases.clone(), time);
        // The embedded one has no excuse.
        let embedded = suite::failures("embedded", &memory);
        assert!(embedded.is_empty(), "{}", embedded.join("\n"));
        wrong = suite::failures("real", &real);
        wrong.extend(suite::compare(&memory, &real));
        if wrong.is_empty() {
            return;
        }
        println!("time {time}: {}", wrong.join("\n"));
    }
    panic!("{}", wrong.join("\n"));
}

mod both_clusters_answer_the_same_about {
    use super::{compare, suite};

    macro_rules! areas {
        ($($area:ident),* $(,)?) => {$(
            #[tokio::test]
            async fn $area() {
                compare(suite::$area()).await;
            }
        )*};
    }

    suite::with_areas!(areas);
}
