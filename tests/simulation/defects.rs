//! The search has teeth: each defect that is planted in the controller is found. KUBERNAUT_DEFECT names one of them,
//! KUBERNAUT_SEEDS says how many seeds it gets.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kubernaut_machines::defect::{Defect, plant};

use crate::search::{scenario, seeds, violations};

/// The first seed that shows a defect, and what it shows.
fn first_seed(defect: Defect, most: u64) -> Option<(u64, String)> {
    plant(Some(defect));
    let found = (0..most).find_map(|seed| Some((seed, violations(&scenario(seed)).into_iter().next()?)));
    plant(None);
    found
}

#[test]
fn every_planted_defect_is_found() {
    let most = seeds(3_000).end;
    let only = std::env::var("KUBERNAUT_DEFECT").unwrap_or_default();
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(defect) = Defect::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !format!("{defect:?}").contains(&only) {
                        continue;
                    }
                    match first_seed(*defect, most) {
                        Some((seed, what)) => println!("{defect:?}: seed {seed}: {what:.160}"),
                        None => missed.lock().expect("no panic").push(*defect),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("no panic");
    assert!(missed.is_empty(), "not found within {most} seeds: {missed:?}");
}
