//! The search: one seed after the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use embedded_cluster::{EmbeddedCluster, PodHabits, Rbac};
use kubernaut::rehearsal::simulation::{
    FaultKind, Outcome, PlannedFault, Scenario, SeededRng, plan, simulate,
};
use serde_json::Value;

use crate::checker::check;
use crate::history::story;
use crate::situations::{self, Situation};
use crate::worlds;

/// Most things that go wrong in one run.
const FAULTS: u64 = 8;
/// As many bad seeds end a search.
const ENOUGH: usize = 3;

/// What each run begins with.
pub(crate) static INSTALLED: LazyLock<EmbeddedCluster> = LazyLock::new(worlds::installed);

pub(crate) fn scenario(seed: u64) -> Scenario {
    let mut chance = SeededRng::new(seed);
    if chance.one_in(3) {
        let Situation {
            runs,
            plan,
            limits,
            pod_run_time,
        } = situations::draw(&mut chance);
        return Scenario {
            installed: INSTALLED.clone(),
            world: Vec::new(),
            runs,
            options: worlds::options(Some(limits)),
            rbac: Rbac::Evaluate,
            plan,
            pod_run_time,
            habits: PodHabits {
                ready_after: Duration::from_millis(*chance.pick(&[0, 0, 0, 500, 8_000])),
                bad_images: Vec::new(),
            },
            seed,
            // A wait for approval ends after an hour.
            patience: Duration::from_mins(70),
            rest: Duration::from_mins(3),
        };
    }
    let runs = worlds::workflows(3, &mut chance);
    let all: Vec<FaultKind> = FaultKind::value_variants()
        .iter()
        .chain(&FaultKind::SEARCHED)
        .copied()
        .collect();
    let kinds = match chance.below(4) {
        // Alone, so that the same end can be asked for.
        0 => vec![FaultKind::Api, FaultKind::Watches, FaultKind::Crashes],
        1 => vec![*chance.pick(&all)],
        // What waits in the controller's own queues.
        2 => vec![
            FaultKind::Slowness,
            FaultKind::Api,
            FaultKind::Crashes,
            *chance.pick(&FaultKind::SEARCHED),
        ],
        _ => all,
    };
    // So few that steps wait for a place, and calls for their turn.
    let limits = chance
        .one_in(2)
        .then(|| (1 + chance.below(4), 1 + chance.below(4)));
    let plan = plan(&kinds, FAULTS, &mut chance);
    let endless = plan
        .iter()
        .any(|planned| matches!(planned, PlannedFault::Outage { lasts: None, .. }));
    Scenario {
        installed: INSTALLED.clone(),
        world: Vec::new(),
        runs,
        options: worlds::options(limits),
        rbac: Rbac::Evaluate,
        plan,
        // So that more or less of what goes wrong meets it.
        pod_run_time: Duration::from_millis(*chance.pick(&[20, 400, 4_000, 15_000])),
        habits: PodHabits {
            ready_after: Duration::from_millis(*chance.pick(&[0, 0, 500, 20_000])),
            bad_images: Vec::new(),
        },
        seed,
        // What is refused for ever is waited for no longer than it takes to see that something does.
        patience: Duration::from_mins(if endless { 10 } else { 60 }),
        rest: Duration::from_mins(3),
    }
}

pub(crate) fn violations(scenario: &Scenario) -> Vec<String> {
    match std::panic::catch_unwind(|| simulate(scenario)) {
        Ok(Ok(outcome)) => check(&outcome, scenario),
        Ok(Err(error)) => vec![error],
        Err(_) => vec!["it panicked".to_owned()],
    }
}

/// The scenario without what is not needed to see the same invariant broken.
fn shrunk(scenario: &Scenario, found: &[String]) -> Scenario {
    let invariant = |found: &[String]| {
        found
            .first()
            .map(|first| first.split(':').next().unwrap_or("").to_owned())
    };
    let wanted = invariant(found);
    let mut small = scenario.clone();
    let mut index = 0;
    while index < small.plan.len() {
        let mut smaller = small.clone();
        smaller.plan.remove(index);
        if invariant(&violations(&smaller)) == wanted {
            small = smaller;
        } else {
            index += 1;
        }
    }
    while small.runs.len() > 1 {
        let mut smaller = small.clone();
        smaller.runs.pop();
        if invariant(&violations(&smaller)) != wanted {
            break;
        }
        small = smaller;
    }
    small
}

/// What is wrong, with how to see it again; `at_length` with what was written.
fn told(seed: u64, scenario: &Scenario, found: &[String], at_length: bool) -> String {
    let small = shrunk(scenario, found);
    let plan: Vec<String> = small.plan.iter().map(PlannedFault::to_string).collect();
    let steps: Vec<String> = small
        .runs
        .iter()
        .flat_map(|run| {
            run["spec"]["workflowDefinition"]["steps"]
                .as_array()
                .into_iter()
                .flatten()
        })
        .map(Value::to_string)
        .collect();
    let story = match simulate(&small) {
        Ok(outcome) if at_length => story(&outcome.record).join("\n"),
        _ => String::new(),
    };
    format!(
        "seed {seed}: {found:#?}\nwith {plan:#?}\nand {steps:#?}\n{story}\nagain, and what was written: KUBERNAUT_SEEDS={seed}..{} cargo test --test simulation search::",
        seed + 1
    )
}

/// Seeds to look at: KUBERNAUT_SEEDS, as 1000 or 5..7.
pub(crate) fn seeds(usual: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("KUBERNAUT_SEEDS") else {
        return 0..usual;
    };
    let number = |text: &str| {
        text.parse()
            .expect("KUBERNAUT_SEEDS is a number or a range such as 5..7")
    };
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}

/// How long to look at most: KUBERNAUT_SEARCH_TIME, as 1h.
fn time() -> Option<Duration> {
    let text = std::env::var("KUBERNAUT_SEARCH_TIME").ok()?;
    Some(
        kubernaut_machines::duration::parse_go(&text)
            .expect("KUBERNAUT_SEARCH_TIME is a duration such as 1h"),
    )
}

#[test]
fn whatever_goes_wrong_the_invariants_hold() {
    let seeds = seeds(1_000);
    let time = time();
    let begun = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let bad = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let over = time.is_some_and(|time| begun.elapsed() > time);
                    if seed >= seeds.end || over || bad.lock().expect("no panic").len() >= ENOUGH {
                        return;
                    }
                    let scenario = scenario(seed);
                    let found = violations(&scenario);
                    if !found.is_empty() {
                        let told = told(seed, &scenario, &found, seeds.end - seeds.start == 1);
                        bad.lock().expect("no panic").push(told);
                    }
                }
            });
        }
    });
    let bad = bad.into_inner().expect("no panic");
    let all = next.into_inner().min(seeds.end) - seeds.start;
    println!("{all} seeds in {:?}", begun.elapsed());
    assert!(bad.is_empty(), "{}", bad.join("\n\n"));
}

/// What a run did, in an order.
fn trace(outcome: &Outcome) -> (Vec<String>, String) {
    let requests = outcome.requests.iter().map(|record| format!("{record:?}"));
    let objects = outcome.objects.iter().map(ToString::to_string);
    (requests.collect(), objects.collect())
}

#[test]
fn the_same_seed_gives_the_same_requests_and_the_same_objects() {
    for seed in 0..40 {
        let [first, second] = [0, 1].map(|_| trace(&simulate(&scenario(seed)).expect("a run")));
        let differs = first
            .0
            .iter()
            .zip(&second.0)
            .find(|(first, second)| first != second);
        assert_eq!(differs, None, "seed {seed}");
        assert!(first == second, "seed {seed}: the objects differ");
    }
}
