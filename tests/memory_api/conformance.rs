//! The cases that the tier control-plane also runs on a real API server, on the embedded cluster alone.

#[path = "../conformance/mod.rs"]
mod suite;

mod the_embedded_cluster_answers_as_expected_about {
    use super::suite::{self, Ground, Memory};

    macro_rules! areas {
        ($($area:ident),* $(,)?) => {$(
            #[tokio::test(start_paused = true)]
            async fn $area() {
                let outcomes = suite::run(&Ground::Memory(Memory::new()), &suite::$area()).await;
                let wrong = suite::failures("embedded", &outcomes);
                assert!(wrong.is_empty(), "{}", wrong.join("\n"));
            }
        )*};
    }

    areas!(
        access,
        applies,
        creations,
        custom,
        definitions,
        deletions,
        kinds,
        lists,
        owners,
        patches,
        pods,
        rules,
        updates,
        watches,
        workloads,
    );
}
