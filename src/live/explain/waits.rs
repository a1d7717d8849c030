//! What a workflow that has not ended waits for, and what to do about it.

use kubernaut_crds::{ExecutionPhase, KubernetesExecution, WorkflowPhase};
use kubernaut_machines::workflow::waits_for_people;

use super::{Case, ToDo};
use crate::terminal::span;
use crate::yaml::scalar;

/// Seconds after which a lease that nobody renewed says that nobody is there.
const SILENT: i64 = 60;
/// A controller that is there begins within this time.
const UNSEEN: i64 = 10;

/// Says why it has not ended yet, and what to do.
pub(super) fn explain(case: &Case<'_>, why: &mut Vec<String>, to_do: &mut Vec<ToDo>) {
    let status = case.workflow.status.clone().unwrap_or_default();
    let message = status.message.unwrap_or_default();
    if case.workflow.metadata.deletion_timestamp.is_some() {
        why.push(
            "Somebody deleted it: what runs of it is stopped, and it goes once that is over.".to_owned(),
        );
        why.extend(finalizers(case));
        to_do.push(ToDo::run("To follow it:", case.command("watch")));
    } else if let Some(shutdown) = case.workflow.spec.shutdown {
        let after = match shutdown {
            kubernaut_crds::Shutdown::Cancel => "no new step starts, and what was done stays",
            kubernaut_crds::Shutdown::Rollback => "no new step starts, and what was done is undone",
        };
        why.push(format!("Somebody told it to stop: {after}."));
        to_do.push(ToDo::run("To follow it:", case.command("watch")));
    }
    if status.phase.is_none() {
        return unseen(case, why, to_do);
    }
    nobody_leads(case, why, to_do);
    if !message.is_empty() {
        why.push(sentence(&message));
    }
    if waits_for_people(case.workflow) {
        if let Some(digest) = status.execution_plan.and_then(|plan| plan.digest) {
            why.push(format!("An approval counts for the plan {digest}."));
        }
        approval(case, &message, to_do);
    } else if case.workflow.spec.suspend == Some(true) || status.phase == Some(WorkflowPhase::Paused) {
        to_do.push(ToDo::run("To let it go on:", case.command("resume")));
    } else {
        match status.phase {
            Some(WorkflowPhase::Monitoring) => why.push(
                "All its steps have ended; the controller checks, until the monitoring window is over, that their changes last."
                    .to_owned(),
            ),
            Some(WorkflowPhase::RollingBack) => {
                why.extend(status.rollback_reason.map(|reason| format!("It undoes what it did, because {reason}")));
            }
            Some(_) | None if message.contains("room in a quota") => {
                let namespace = case.workflow.metadata.namespace.as_deref().unwrap_or_default();
                to_do.push(ToDo::run(
                    "It is tried again by itself; its namespace has a quota for executions. To see it:",
                    case.kubectl(&format!("-n {namespace} describe resourcequota")),
                ));
            }
            Some(_) | None if message.contains(SLOTS) => {
                to_do.push(ToDo::run(
                    "It goes on by itself once others have ended. To see what runs:",
                    format!("kubernaut list -A{}", case.flags),
                ));
                to_do.push(ToDo::words(
                    "If this lasts, whoever runs kubernaut can raise the controller's --max-running-jobs.",
                ));
            }
            Some(_) | None => {}
        }
    }
    for execution in case.executions {
        step(case, execution, why, to_do);
    }
    if case.workflow.spec.shutdown.is_none() && to_do.is_empty() {
        to_do.push(ToDo::run(
            "It goes on by itself. To follow it:",
            case.command("watch"),
        ));
        to_do.push(ToDo::run(
            "To stop it, and keep what it did:",
            case.command("cancel"),
        ));
    }
}

/// Part of the controller's words for a wait for a slot.
const SLOTS: &str = "--max-running-jobs";

/// Nothing was written to its status yet.
fn unseen(case: &Case<'_>, why: &mut Vec<String>, to_do: &mut Vec<ToDo>) {
    let created = case
        .workflow
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|time| time.0);
    let age = created.map_or(0, |created| case.now.duration_since(created).as_secs());
    if age < UNSEEN {
        why.push("It was created a moment ago, and no controller has looked at it yet.".to_owned());
        to_do.push(ToDo::run("To follow it:", case.command("watch")));
        return;
    }
    why.push("No controller has looked at it.".to_owned());
    if !nobody_leads(case, why, to_do) {
        if let Some(leader) = &case.looks.leader {
            why.push(format!(
                "The lease names {leader}, but it has not picked this workflow up: it may be down, overloaded or cut off."
            ));
        }
        see_the_controller(case, to_do);
    }
}

/// Says so where no controller runs, as far as its lease tells.
fn nobody_leads(case: &Case<'_>, why: &mut Vec<String>, to_do: &mut Vec<ToDo>) -> bool {
    if !case.looks.leader_sought {
        return false;
    }
    let Some(leader) = &case.looks.leader else {
        why.push(format!(
            "No controller holds the lease in namespace {}: none runs, and nothing happens until one does.",
            case.controller_namespace
        ));
        see_the_controller(case, to_do);
        return true;
    };
    let silent = case
        .looks
        .renewed
        .filter(|renewed| case.now.duration_since(*renewed).as_secs() >= SILENT);
    let Some(renewed) = silent else {
        return false;
    };
    why.push(format!(
        "The controller {leader} last renewed its lease {} ago: it is probably down, and nothing happens until one runs.",
        span(renewed, case.now)
    ));
    see_the_controller(case, to_do);
    true
}

fn see_the_controller(case: &Case<'_>, to_do: &mut Vec<ToDo>) {
    to_do.push(ToDo::run(
        "To see whether the controller runs:",
        case.kubectl(&format!("-n {} get deployments,pods", case.controller_namespace)),
    ));
    to_do.push(ToDo::run("And what it says:", case.controller_log()));
}

/// People are waited for.
fn approval(case: &Case<'_>, message: &str, to_do: &mut Vec<ToDo>) {
    if message.contains("nobody's Approval counts") {
        to_do.push(ToDo::words(
            "No approval helps until what the words above name is fixed, by whoever runs kubernaut, or by creating the workflow anew.",
        ));
        to_do.push(ToDo::run("To stop it:", case.command("cancel")));
        return;
    }
    match case.looks.may_approve {
        Some(false) => {
            to_do.push(ToDo::words(
                "You may not approve it: ask somebody who has the ClusterRole kubernaut-approve in its namespace.",
            ));
            to_do.push(ToDo::run("To stop it instead:", case.command("cancel")));
            return;
        }
        Some(true) => {
            let creator = case.workflow.created_by().unwrap_or_default();
            let but = if creator.is_empty() {
                String::new()
            } else {
                format!(" (unless you are {creator}, who created it)")
            };
            to_do.push(ToDo::run(
                format!("You may approve it{but}; its plan is shown first:"),
                case.command("approve"),
            ));
        }
        None => to_do.push(ToDo::run(
            "To approve it; its plan is shown first:",
            case.command("approve"),
        )),
    }
    to_do.push(ToDo::run("To say no:", case.command("reject")));
}

/// A step that runs, and what it waits for.
fn step(case: &Case<'_>, execution: &KubernetesExecution, why: &mut Vec<String>, to_do: &mut Vec<ToDo>) {
    let status = execution.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or(ExecutionPhase::Validating);
    if phase.is_terminal() {
        return;
    }
    let number = execution.spec.step_number;
    let target = status.target_name.unwrap_or_default();
    let since = status
        .start_time
        .map(|time| format!(", for {}", span(time.0, case.now)));
    let attempt = status
        .attempt
        .filter(|attempt| *attempt > 1)
        .map(|attempt| format!(", attempt {attempt}"));
    let message = status.message.unwrap_or_default();
    why.push(format!(
        "Step {number} ({}{}) is {}{}{}: {message}",
        execution.spec.action,
        if target.is_empty() {
            String::new()
        } else {
            format!(" on {target}")
        },
        if phase == ExecutionPhase::RollbackReady {
            "waiting for its outcome"
        } else {
            phase.as_str()
        },
        attempt.unwrap_or_default(),
        since.unwrap_or_default(),
    ));
    for (_, pod) in case.looks.waiting.iter().filter(|(step, _)| *step == number) {
        why.push(format!("Pod {} does not run: {}", pod.name, pod.why));
    }
    if phase == ExecutionPhase::WaitingApproval {
        to_do.push(ToDo::run(
            "The step itself has to be approved, by somebody who may create Approvals and did not create it. As that person:",
            step_approval(case, execution),
        ));
    }
    if message.contains("waits for quota") {
        let namespace = &case.executor_namespace;
        to_do.push(ToDo::run(
            "It is tried again by itself. To see the quota:",
            case.kubectl(&format!("-n {namespace} describe resourcequota")),
        ));
    }
    if message.contains(SLOTS) {
        to_do.push(ToDo::run(
            "It goes on by itself once others have ended. To see what runs:",
            format!("kubernaut list -A{}", case.flags),
        ));
    }
    if message.contains("the API server refuses") || message.contains("payload can't be deleted") {
        to_do.push(ToDo::run(
            "It is tried again, but somebody has to lift what refuses it first. What the controller says:",
            case.controller_log(),
        ));
    }
    if let Some((namespace, holder)) = holder(&message) {
        to_do.push(ToDo::run(
            "It goes on by itself once the one that holds its target has ended; if that one has failed, its message says how to release \
             the target. To see it:",
            case.kubectl(&format!("-n {namespace} get kubernetesexecution {holder}")),
        ));
    }
    if phase == ExecutionPhase::Executing {
        to_do.push(ToDo::run(
            format!("To read what the Job of step {number} says:"),
            format!("{} {number} --follow", case.logs()),
        ));
    }
}

/// What approves an execution by itself, as a command to paste.
fn step_approval(case: &Case<'_>, execution: &KubernetesExecution) -> String {
    let metadata = &execution.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (namespace, name, uid) = (
        text(&metadata.namespace),
        text(&metadata.name),
        text(&metadata.uid),
    );
    let (namespace, quoted, uid) = (scalar(&namespace), scalar(&name), scalar(&uid));
    format!(
        "{} <<EOF\napiVersion: {}\nkind: Approval\nmetadata: {{generateName: {name}-, namespace: {namespace}}}\nspec:\n  objectRef: \
         {{kind: KubernetesExecution, name: {quoted}, uid: {uid}}}\n  decision: Approved\n  approver: \"$({})\"\nEOF",
        case.kubectl("create -f -"),
        kubernaut_crds::names::WORKFLOW_API_VERSION,
        case.kubectl("auth whoami -o jsonpath='{.status.userInfo.username}'")
    )
}

/// Namespace and name of the execution that holds a lock, from the controller's words.
fn holder(message: &str) -> Option<(&str, &str)> {
    let holder = [" is held by ", " is waited for before by "]
        .iter()
        .find_map(|words| Some(message.split_once(words)?.1))?;
    let holder = holder.split_whitespace().next()?;
    holder.trim_end_matches([',', ';', '.']).split_once('/')
}

/// What holds a workflow that is deleted.
fn finalizers(case: &Case<'_>) -> Option<String> {
    let others: Vec<&str> = case
        .workflow
        .metadata
        .finalizers
        .iter()
        .flatten()
        .map(String::as_str)
        .filter(|finalizer| !finalizer.contains("kubernaut.io/"))
        .collect();
    (!others.is_empty()).then(|| {
        format!(
            "It also waits for others, whose finalizers it has: {}.",
            others.join(", ")
        )
    })
}

/// The controller's words as a sentence.
fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}
