//! The embedded cluster and a real API server are asked the same, and answer the same.

#[path = "../conformance/mod.rs"]
mod suite;

use std::thread;

use kubernaut_testbed::ControlPlane;
use tokio::sync::OnceCell;

use self::suite::{Backend, Case, Memory, Outcome};
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
fn embedded(cases: Vec<Case>) -> Vec<Outcome> {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async { suite::run(&Backend::Memory(Memory::new()), &cases).await })
    };
    thread::spawn(work).join().expect("no panic")
}

async fn compare(cases: Vec<Case>) {
    let client = prepared().await.admin_client().await.expect("a client");
    let real = suite::run(&Backend::Real(client), &cases).await;
    let memory = embedded(cases);
    let mut wrong = suite::failures("embedded", &memory);
    wrong.extend(suite::failures("real", &real));
    wrong.extend(suite::compare(&memory, &real));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
