//! The search has teeth: each defect that is planted in the controller is found. KUBERNAUT_DEFECT names one of them,
//! KUBERNAUT_SEEDS says how many seeds it gets. The seed that showed a defect last, as found_at.txt says, is looked at first: what
//! takes a thousand seeds takes one. With KUBERNAUT_SEEDS nothing is known before, and what was found is written there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kubernaut_machines::defect::{Defect, plant};

use crate::search::{scenario, seeds, violations};

/// Lines of a defect and the seed that showed it.
fn found_at() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/found_at.txt")
}

fn known() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(found_at()).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (name, seed) = line.split_once(' ')?;
            Some((name.to_owned(), seed.parse().ok()?))
        })
        .collect()
}

/// The first seed that shows a defect, and what it shows.
fn first_seed(defect: Defect, first: Option<u64>, most: u64) -> Option<(u64, String)> {
    plant(Some(defect));
    let shown = |seed: u64| Some((seed, violations(&scenario(seed)).into_iter().next()?));
    let found = first.into_iter().chain(0..most).find_map(shown);
    plant(None);
    found
}

#[test]
fn every_planted_defect_is_found() {
    let most = seeds(3_000).end;
    let only = std::env::var("KUBERNAUT_DEFECT").unwrap_or_default();
    let known = if std::env::var_os("KUBERNAUT_SEEDS").is_none() {
        known()
    } else {
        BTreeMap::new()
    };
    let found = Mutex::new(BTreeMap::new());
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
                    let first = known.get(&format!("{defect:?}")).copied();
                    match first_seed(*defect, first, most) {
                        Some((seed, what)) => {
                            println!("{defect:?}: seed {seed}: {what:.160}");
                            let mut found = found.lock().expect("no panic");
                            found.insert(format!("{defect:?}"), seed);
                        }
                        None => missed.lock().expect("no panic").push(*defect),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("no panic");
    assert!(missed.is_empty(), "not found within {most} seeds: {missed:?}");
    if known.is_empty() && only.is_empty() {
        let lines = found.into_inner().expect("no panic");
        let lines: Vec<String> = lines
            .iter()
            .map(|(name, seed)| format!("{name} {seed}"))
            .collect();
        std::fs::write(found_at(), lines.join("\n") + "\n").expect("found_at.txt");
    }
}
