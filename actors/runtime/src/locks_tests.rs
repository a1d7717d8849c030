//! Locks are granted in order, and given back whatever becomes of their holder.

use std::sync::{Arc, Mutex};

use kubernaut_crds::{KubernetesExecution, TargetRef};
use kubernaut_machines::policy_input::Other;
use serde_json::json;

use super::{Acquired, LockTable, Wake};

fn execution(uid: &str, created: i64) -> KubernetesExecution {
    let time = jiff::Timestamp::from_second(1_800_000_000 + created).unwrap();
    serde_json::from_value(json!({
        "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
        "metadata": {"name": uid, "namespace": "shop", "uid": uid, "creationTimestamp": time.to_string()},
        "spec": {"action": "cordon-node", "parameters": {"cordonNode": {"node": "n"}}},
    }))
    .unwrap()
}

fn deployment(name: &str) -> TargetRef {
    TargetRef {
        kind: "Deployment".into(),
        namespace: Some("shop".into()),
        name: name.into(),
    }
}

fn node(name: &str) -> TargetRef {
    TargetRef {
        kind: "Node".into(),
        namespace: None,
        name: name.into(),
    }
}

#[derive(Default)]
struct World {
    locks: LockTable,
    woken: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn wake(&self, uid: &str) -> Wake {
        let (woken, uid) = (Arc::clone(&self.woken), uid.to_owned());
        Box::new(move || woken.lock().unwrap().push(uid))
    }

    fn ask(&self, uid: &str, created: i64, target: &TargetRef) -> Acquired {
        self.locks.acquire(
            &execution(uid, created),
            target,
            target.kind == "Node",
            self.wake(uid),
        )
    }

    fn woken(&self) -> Vec<String> {
        self.woken.lock().unwrap().clone()
    }
}

fn is_busy(acquired: &Acquired) -> bool {
    matches!(acquired, Acquired::Busy { .. })
}

#[test]
fn waiters_are_served_by_creation_then_uid() {
    let world = World::default();
    let web = deployment("web");
    assert_eq!(world.ask("first", 0, &web), Acquired::Granted);
    assert_eq!(
        world.ask("late", 9, &web),
        Acquired::Busy {
            reason: "deployment/shop/web is held by shop/first".into()
        }
    );
    assert!(is_busy(&world.ask("b", 5, &web)));
    assert!(is_busy(&world.ask("a", 5, &web)));
    assert_eq!(world.ask("other", 99, &deployment("api")), Acquired::Granted);
    for uid in ["first", "a", "b", "late"] {
        world.locks.release(uid);
    }
    assert_eq!(world.woken(), ["a", "b", "late"]);
}

#[test]
fn who_was_at_work_before_the_start_holds_its_lock_before_anyone_asks() {
    let world = World::default();
    world.locks.prefill(&execution("old", 0), &node("n1"));
    assert!(is_busy(&world.ask("new", 1, &node("n2"))));
    assert_eq!(world.ask("old", 0, &node("n1")), Acquired::Granted);
    world.locks.release("old");
    assert_eq!(world.woken(), ["new"]);
}

#[test]
fn two_found_at_work_on_one_target_both_hold_it_and_the_next_waits_for_both() {
    let world = World::default();
    world.locks.prefill(&execution("1", 0), &deployment("web"));
    world.locks.prefill(&execution("2", 0), &deployment("web"));
    assert!(is_busy(&world.ask("3", 1, &deployment("web"))));
    world.locks.release("1");
    assert!(world.woken().is_empty());
    world.locks.release("2");
    assert_eq!(world.woken(), ["3"]);
}

#[test]
fn a_dead_holder_keeps_its_lock_and_a_dead_waiter_loses_its_turn() {
    let world = World::default();
    let web = deployment("web");
    assert_eq!(world.ask("1", 0, &web), Acquired::Granted);
    assert!(is_busy(&world.ask("2", 1, &web)));
    assert!(is_busy(&world.ask("3", 2, &web)));
    world.locks.withdraw("1");
    world.locks.withdraw("2");
    assert!(world.woken().is_empty());
    assert_eq!(world.ask("1", 0, &web), Acquired::Granted);
    world.locks.release("1");
    assert_eq!(world.woken(), ["3"]);
    assert_eq!(world.locks.counts(), (1, 0));
}

#[test]
fn target_and_nodes_are_taken_in_one_step() {
    let world = World::default();
    // A deployment's lock does not touch the nodes; two nodes exclude each other.
    assert_eq!(world.ask("d", 0, &deployment("web")), Acquired::Granted);
    assert_eq!(world.ask("n1", 1, &node("n1")), Acquired::Granted);
    assert!(is_busy(&world.ask("n2", 2, &node("n2"))));
    // Someone else has the node alone, without the lock on all nodes.
    let alone = world
        .locks
        .acquire(&execution("alone", 3), &node("n3"), false, world.wake("alone"));
    assert_eq!(alone, Acquired::Granted);
    assert!(is_busy(&world.ask("n3", 4, &node("n3"))));
    world.locks.release("n1");
    assert_eq!(world.woken(), ["n2"]);
    world.locks.release("alone");
    assert_eq!(world.woken(), ["n2"]);
    world.locks.release("n2");
    assert_eq!(world.woken(), ["n2", "n3"]);
}

#[test]
fn every_waiter_is_served_in_the_end_whatever_the_order() {
    // A small pseudo-random walk over targets with and without the lock on nodes.
    let mut seed = 7_u64;
    let mut random = move |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let world = World::default();
    let mut holding = Vec::new();
    for n in 0..300 {
        let target = if random(2) == 0 {
            node(&format!("n{}", random(3)))
        } else {
            deployment(&format!("d{}", random(3)))
        };
        let uid = format!("u{n:03}");
        let created = i64::try_from(random(50)).unwrap();
        if world.ask(&uid, created, &target) == Acquired::Granted {
            holding.push(uid);
        }
        if random(3) == 0 && !holding.is_empty() {
            let index = usize::try_from(random(holding.len() as u64)).unwrap();
            world.locks.release(&holding.swap_remove(index));
            holding.append(&mut world.woken.lock().unwrap());
        }
    }
    while let Some(uid) = holding.pop() {
        world.locks.release(&uid);
        holding.append(&mut world.woken.lock().unwrap());
    }
    assert_eq!(world.locks.counts(), (0, 0));
}

/// Each is told of those that were asked about before it, so of two that exclude each other exactly one is told of the other.
#[test]
fn a_policy_is_told_of_those_that_have_begun_or_were_asked_about_before() {
    let world = World::default();
    let begun = deployment("begun");
    world.locks.prefill(&execution("old", 0), &begun);
    for (uid, created) in [("a", 1), ("b", 2)] {
        let acquired =
            world
                .locks
                .acquire(&execution(uid, created), &deployment(uid), false, Box::new(|| {}));
        assert_eq!(acquired, Acquired::Granted);
    }
    let waiting = world
        .locks
        .acquire(&execution("c", 3), &deployment("a"), false, Box::new(|| {}));
    assert!(matches!(waiting, Acquired::Busy { .. }));
    let cordons = |target: TargetRef| Other {
        action: "cordon-node",
        target,
        rollback: false,
    };
    let old = cordons(begun);
    // Who waits is asked about, too, and is in nobody's way.
    assert_eq!(world.locks.known_to("c"), std::slice::from_ref(&old));
    assert_eq!(world.locks.known_to("b"), std::slice::from_ref(&old));
    assert_eq!(world.locks.known_to("a"), [old.clone(), cordons(deployment("b"))]);
    world.locks.release("b");
    // What only tries something is in nobody's way either.
    let mut tried = execution("d", 4);
    tried.spec.dry_run = Some(true);
    world
        .locks
        .acquire(&tried, &deployment("d"), false, Box::new(|| {}));
    assert_eq!(world.locks.known_to("d"), [old.clone(), cordons(deployment("a"))]);
    assert_eq!(world.locks.known_to("a"), [old]);
}
