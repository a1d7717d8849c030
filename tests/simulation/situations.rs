//! What rarely comes together by chance and hurts when it does: several things that go wrong at once, around one weakness.

use std::time::Duration;

use embedded_cluster::PodScript;
use kubernaut::rehearsal::simulation::{CrashPoint, Disturbance, PlannedFault, SeededRng};
use serde_json::Value;

use crate::worlds;

/// A run, but for what all runs share.
pub(crate) struct Situation {
    pub(crate) runs: Vec<Value>,
    pub(crate) plan: Vec<PlannedFault>,
    /// Jobs, and calls, at once.
    pub(crate) limits: (u64, u64),
    pub(crate) pod_run_time: Duration,
}

/// One of them.
pub(crate) fn draw(chance: &mut SeededRng) -> Situation {
    let all = [
        many_steps_and_a_new_controller,
        a_slow_queue_and_one_refusal,
        a_late_status_and_a_new_controller,
        a_vanished_execution_that_can_not_be_asked_for,
        a_lost_node_and_one_place,
        a_late_create_and_a_refusal,
        a_late_create_and_an_upgrade,
        a_busy_target_and_an_annotation,
        a_critical_step_that_fails_late,
        a_critical_step_that_fails_late,
        people_who_stop_what_runs,
        people_who_stop_what_runs,
        somebody_who_scales_what_is_undone,
        people_who_approve,
        people_who_approve,
        a_workflow_that_waits_to_be_started,
    ];
    let situation = *chance.pick(&all);
    situation(chance)
}

fn millis(chance: &mut SeededRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(from + chance.below(to - from))
}

fn number(chance: &mut SeededRng, below: u64) -> usize {
    usize::try_from(chance.below(below)).unwrap_or(0)
}

/// At one of its first writes, and for so many milliseconds.
fn crash(chance: &mut SeededRng, writes: u64, (from, to): (u64, u64)) -> PlannedFault {
    PlannedFault::Crash {
        write: 3 + number(chance, writes),
        crash_point: *chance.pick(&[CrashPoint::Before, CrashPoint::Committed, CrashPoint::Answered]),
        down: millis(chance, from, to),
    }
}

/// Jobs end, and others are recorded and not made, while nobody looks; more steps wait than there are places.
fn many_steps_and_a_new_controller(chance: &mut SeededRng) -> Situation {
    let crashes = 1 + chance.below(2);
    Situation {
        runs: vec![worlds::abreast("flow-1", 4, chance)],
        plan: (0..crashes).map(|_| crash(chance, 25, (500, 20_000))).collect(),
        limits: (1 + chance.below(2), 4),
        pod_run_time: millis(chance, 500, 5_000),
    }
}

/// Calls wait so long for their turn that a budget of time is over before the first of them is sent.
fn a_slow_queue_and_one_refusal(chance: &mut SeededRng) -> Situation {
    let asked = [
        ("create", "subjectaccessreviews"),
        ("get", "deployments"),
        ("get", "configmaps"),
        ("get", "nodes"),
    ];
    let refusal = |chance: &mut SeededRng| {
        let (verb, resource) = *chance.pick(&asked);
        PlannedFault::Outage {
            at: millis(chance, 30_000, 250_000),
            lasts: Some(millis(chance, 5_000, 25_000)),
            verb,
            resource,
            code: *chance.pick(&[429, 500, 503]),
        }
    };
    let mut plan: Vec<PlannedFault> = (0..4).map(|_| refusal(chance)).collect();
    plan.push(PlannedFault::Slowness {
        // All is asked within the first moments.
        at: millis(chance, 0, 30),
        lasts: Duration::from_secs(300),
        delay: millis(chance, 2_000, 8_500),
    });
    Situation {
        runs: vec![
            worlds::abreast("flow-1", 5, chance),
            worlds::abreast("flow-2", 5, chance),
        ],
        plan,
        limits: (4, 1),
        pod_run_time: millis(chance, 20, 1_000),
    }
}

/// What a controller wrote arrives when the next one has written something else.
fn a_late_status_and_a_new_controller(chance: &mut SeededRng) -> Situation {
    let late = |chance: &mut SeededRng| PlannedFault::LateCalls {
        at: millis(chance, 0, 6_000),
        lasts: millis(chance, 50, 3_000),
        verb: "patch",
        resource: if chance.one_in(2) {
            "workflowexecutions/status"
        } else {
            "kubernetesexecutions/status"
        },
        delay: millis(chance, 2_000, 40_000),
    };
    let end = if chance.one_in(2) {
        PlannedFault::Partition {
            at: millis(chance, 0, 8_000),
            lasts: millis(chance, 5_000, 60_000),
        }
    } else {
        crash(chance, 20, (0, 10_000))
    };
    Situation {
        runs: vec![worlds::abreast("flow-1", 3, chance)],
        plan: vec![late(chance), late(chance), end],
        limits: (4, 4),
        pod_run_time: millis(chance, 100, 8_000),
    }
}

/// Somebody takes an execution away, and just then it can't be read, or was never seen.
fn a_vanished_execution_that_can_not_be_asked_for(chance: &mut SeededRng) -> Situation {
    let seen = chance.one_in(2);
    let at = millis(chance, 100, if seen { 8_000 } else { 500 });
    let hidden = if seen {
        PlannedFault::Outage {
            at,
            lasts: Some(millis(chance, 500, 10_000)),
            verb: "get",
            resource: "kubernetesexecutions",
            code: *chance.pick(&[403, 429, 500, 503]),
        }
    } else {
        // Or no watch has shown it before it goes.
        PlannedFault::CutWatches {
            at: millis(chance, 5, 40),
            compacted: true,
        }
    };
    Situation {
        runs: vec![worlds::abreast("flow-1", 3, chance)],
        plan: vec![
            hidden,
            PlannedFault::Stranger {
                at: at + millis(chance, 0, 400),
                disturbance: Disturbance::StripFinalizer,
                choice: chance.draw(),
            },
        ],
        limits: (4, 4),
        pod_run_time: millis(chance, 2_000, 15_000),
    }
}

/// The pod of a Job can't be reached any more, and others wait for its place; perhaps its execution is taken away meanwhile, or
/// the controller is another one.
fn a_lost_node_and_one_place(chance: &mut SeededRng) -> Situation {
    let mut plan = vec![PlannedFault::Pod {
        number: number(chance, 2),
        script: PodScript::Lost,
    }];
    if chance.one_in(2) {
        plan.push(PlannedFault::Stranger {
            at: millis(chance, 500, 8_000),
            disturbance: *chance.pick(&[Disturbance::StripFinalizer, Disturbance::DeleteExecution]),
            choice: chance.draw(),
        });
    }
    if chance.one_in(2) {
        plan.push(crash(chance, 25, (0, 90_000)));
    }
    Situation {
        runs: vec![worlds::abreast("flow-1", 4, chance)],
        plan,
        limits: (1, 4),
        pod_run_time: millis(chance, 20, 2_000),
    }
}

/// What the steps have changed is undone, and meanwhile a controller dies, or somebody else changes a target.
fn a_critical_step_that_fails_late(chance: &mut SeededRng) -> Situation {
    let mut plan = Vec::new();
    for _ in 0..chance.below(3) {
        plan.push(crash(chance, 70, (0, 10_000)));
    }
    if chance.one_in(3) {
        plan.push(PlannedFault::Stranger {
            at: millis(chance, 500, 20_000),
            disturbance: *chance.pick(&[
                Disturbance::EditTarget,
                Disturbance::DeleteExecution,
                Disturbance::Cancel,
            ]),
            choice: chance.draw(),
        });
    }
    Situation {
        runs: vec![worlds::undone("flow-1", true, chance)],
        plan,
        limits: (4, 4),
        pod_run_time: millis(chance, 20, 2_000),
    }
}

/// Somebody suspends, cancels or has undone what runs, and meanwhile a controller dies.
fn people_who_stop_what_runs(chance: &mut SeededRng) -> Situation {
    let asks = |chance: &mut SeededRng| PlannedFault::Stranger {
        at: millis(chance, 0, 12_000),
        disturbance: *chance.pick(&[Disturbance::Pause, Disturbance::Cancel, Disturbance::RollBack]),
        choice: chance.draw(),
    };
    let mut plan = vec![asks(chance)];
    if chance.one_in(2) {
        plan.push(asks(chance));
    }
    if chance.one_in(2) {
        plan.push(crash(chance, 50, (0, 10_000)));
    }
    let fails = chance.one_in(4);
    Situation {
        runs: vec![worlds::undone("flow-1", fails, chance)],
        plan,
        limits: (1 + chance.below(4), 4),
        pod_run_time: millis(chance, 20, 6_000),
    }
}

/// What a step has set, or is about to set, somebody sets, too, and then the steps are undone.
fn somebody_who_scales_what_is_undone(chance: &mut SeededRng) -> Situation {
    let stranger = |at, disturbance, chance: &mut SeededRng| PlannedFault::Stranger {
        at,
        disturbance,
        choice: chance.draw(),
    };
    let mut plan = Vec::new();
    for _ in 0..=chance.below(3) {
        let at = millis(chance, 0, 8_000);
        plan.push(stranger(at, Disturbance::ScaleTarget, chance));
    }
    if chance.one_in(2) {
        plan.push(PlannedFault::Quota {
            at: millis(chance, 0, 500),
            lasts: millis(chance, 500, 8_000),
            resource: "count/jobs.batch",
        });
    }
    if chance.one_in(2) {
        let at = millis(chance, 500, 8_000);
        plan.push(stranger(at, Disturbance::RollBack, chance));
    }
    Situation {
        runs: vec![worlds::scaled("flow-1", chance)],
        plan,
        limits: (4, 4),
        pod_run_time: millis(chance, 20, 2_000),
    }
}

/// A workflow gets no slot for as long as a Job of another one hangs.
fn a_workflow_that_waits_to_be_started(chance: &mut SeededRng) -> Situation {
    let mut plan = vec![PlannedFault::Pod {
        number: 0,
        script: PodScript::Hang,
    }];
    if chance.one_in(2) {
        plan.push(crash(chance, 10, (0, 20_000)));
    }
    Situation {
        runs: vec![
            worlds::abreast("flow-1", 1, chance),
            worlds::abreast("flow-2", 2, chance),
        ],
        plan,
        limits: (1, 4),
        pod_run_time: millis(chance, 20, 2_000),
    }
}

/// People approve, reject, and take back what they said, and meanwhile a controller dies, or somebody stops it.
fn people_who_approve(chance: &mut SeededRng) -> Situation {
    let does = |disturbance, chance: &mut SeededRng| PlannedFault::Stranger {
        at: millis(chance, 20, 12_000),
        disturbance,
        choice: chance.draw(),
    };
    let mut plan = Vec::new();
    for _ in 0..2 + chance.below(5) {
        plan.push(does(Disturbance::Decide, chance));
    }
    if chance.one_in(3) {
        plan.push(does(Disturbance::Withdraw, chance));
    }
    if chance.one_in(6) {
        let asked = *chance.pick(&[Disturbance::Cancel, Disturbance::RollBack, Disturbance::Pause]);
        plan.push(does(asked, chance));
    }
    if chance.one_in(2) {
        plan.push(crash(chance, 20, (0, 10_000)));
    }
    if chance.one_in(3) {
        plan.push(PlannedFault::LateCalls {
            at: millis(chance, 0, 10_000),
            lasts: millis(chance, 1_000, 5_000),
            verb: "patch",
            resource: "workflowexecutions/status",
            delay: millis(chance, 2_000, 15_000),
        });
    }
    let mut runs = vec![worlds::asking("flow-1", chance)];
    if chance.one_in(2) {
        runs.push(worlds::asking("flow-2", chance));
    }
    Situation {
        runs,
        plan,
        limits: (1 + chance.below(4), 4),
        pod_run_time: millis(chance, 20, 2_000),
    }
}

fn late_creates(chance: &mut SeededRng) -> PlannedFault {
    PlannedFault::LateCalls {
        at: Duration::ZERO,
        lasts: millis(chance, 1_000, 10_000),
        verb: "create",
        resource: "jobs",
        delay: millis(chance, 25_000, 55_000),
    }
}

/// Jobs are created late, after their creation was given up; then creations are refused for good.
fn a_late_create_and_a_refusal(chance: &mut SeededRng) -> Situation {
    let plan = vec![
        late_creates(chance),
        PlannedFault::Outage {
            at: millis(chance, 10_000, 30_000),
            lasts: Some(millis(chance, 60_000, 120_000)),
            verb: "create",
            resource: "jobs",
            code: *chance.pick(&[400, 403, 404, 422]),
        },
    ];
    Situation {
        runs: vec![worlds::abreast("flow-1", 2, chance)],
        plan,
        limits: (4, 4),
        pod_run_time: millis(chance, 20, 10_000),
    }
}

/// Jobs are created late, after the controller that sent them has died; the next one would make others.
fn a_late_create_and_an_upgrade(chance: &mut SeededRng) -> Situation {
    let plan = vec![
        late_creates(chance),
        PlannedFault::Upgrade,
        crash(chance, 20, (0, 10_000)),
    ];
    Situation {
        runs: vec![worlds::abreast("flow-1", 3, chance)],
        plan,
        limits: (4, 4),
        pod_run_time: millis(chance, 1_000, 30_000),
    }
}

/// Of two steps of one target one has to say that it waits, and somebody annotates it before it could.
fn a_busy_target_and_an_annotation(chance: &mut SeededRng) -> Situation {
    let mut plan = vec![
        PlannedFault::LateCalls {
            at: Duration::ZERO,
            lasts: millis(chance, 30, 5_000),
            verb: "patch",
            resource: "kubernetesexecutions/status",
            delay: millis(chance, 200, 5_000),
        },
        PlannedFault::Pod {
            number: number(chance, 3),
            script: PodScript::Lost,
        },
    ];
    for _ in 0..4 {
        plan.push(PlannedFault::Stranger {
            at: millis(chance, 10, 3_000),
            disturbance: Disturbance::AnnotateExecution,
            choice: chance.draw(),
        });
    }
    let runs = vec![
        worlds::abreast("flow-1", 3, chance),
        worlds::abreast("flow-2", 3, chance),
    ];
    Situation {
        runs,
        plan,
        limits: (4, 4),
        pod_run_time: millis(chance, 5_000, 30_000),
    }
}
