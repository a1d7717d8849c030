//! What a workflow that has not ended waits for, and what to do about it.

use kubernaut_crds::{ExecutionPhase, KubernetesExecution, WorkflowPhase};
use kubernaut_machines::workflow::waits_for_people;

use super::{Case, ToDo};
use crate::manifests::CONTROLLER_NAMESPACE;
use crate::terminal::span;

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
    } else if let Some(shutdown) = case.workflow.spec.shutdown {
        let after = match shutdown {
            kubernaut_crds::Shutdown::Cancel => "no new step starts, and what was done stays",
            kubernaut_crds::Shutdown::Rollback => "no new step starts, and what was done is taken back",
        };
        why.push(format!("Somebody told it to stop: {after}."));
    }
    if status.phase.is_none() {
        return unseen(case, why, to_do);
    }
    if waits_for_people(case.workflow) {
        why.push(sentence(&message));
        approval(case, status.execution_plan.and_then(|plan| plan.digest), to_do);
    } else {
        match status.phase {
            Some(WorkflowPhase::Paused) => {
                why.push(sentence(&message));
                to_do.push(ToDo::run("To let it go on:", case.command("resume")));
            }
            Some(WorkflowPhase::Monitoring) => why.push(
                "All its steps have ended; until the monitoring window is over, it is looked at whether what they did lasts."
                    .to_owned(),
            ),
            Some(WorkflowPhase::RollingBack) => {
                why.push(sentence(&message));
                why.extend(status.rollback_reason.map(|reason| format!("It takes back what it did, because {reason}")));
            }
            Some(_) | None if message.contains(SLOTS) => {
                why.push(sentence(&message));
                to_do.push(ToDo::run(
                    "It goes on by itself once others have ended. To see what runs:",
                    format!("kubernaut list -A{}", case.flags),
                ));
                to_do.push(ToDo::words(
                    "If this lasts, whoever runs kubernaut can raise the controller's --max-running-jobs.",
                ));
            }
            Some(_) | None => why.push(sentence(&message)),
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
    if let Some(leader) = &case.looks.leader {
        why.push(format!(
            "The controller {leader} holds the lease: it is away, or another one of its name does not come to it."
        ));
    } else if case.looks.leader_sought {
        why.push(format!(
            "No controller holds the lease in namespace {CONTROLLER_NAMESPACE}: none runs."
        ));
    }
    to_do.push(ToDo::run(
        "To see whether the controller runs, and what it says:",
        format!(
            "{}\n{}",
            case.kubectl(&format!("-n {CONTROLLER_NAMESPACE} get deployments,pods")),
            case.kubectl(&format!(
                "-n {CONTROLLER_NAMESPACE} logs -l app.kubernetes.io/name=kubernaut --tail=20"
            ))
        ),
    ));
}

/// People are waited for.
fn approval(case: &Case<'_>, digest: Option<String>, to_do: &mut Vec<ToDo>) {
    match case.looks.may_approve {
        Some(false) => to_do.push(ToDo::words(
            "You may not approve it: ask somebody who has the ClusterRole kubernaut-approve in its namespace.",
        )),
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
    if let Some(digest) = digest {
        to_do.push(ToDo::words(format!("An approval counts for the plan {digest}.")));
    }
}

/// A step that runs, and what it waits for.
fn step(case: &Case<'_>, execution: &KubernetesExecution, why: &mut Vec<String>, to_do: &mut Vec<ToDo>) {
    let status = execution.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or(ExecutionPhase::Validating);
    if phase.is_terminal() {
        return;
    }
    let number = execution.spec.step_number;
    let name = execution.metadata.name.as_deref().unwrap_or_default();
    let target = status.target_name.unwrap_or_default();
    let since = status
        .start_time
        .map(|time| format!(", since {}", span(time.0, case.now)));
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
        phase.as_str(),
        attempt.unwrap_or_default(),
        since.unwrap_or_default(),
    ));
    for (_, pod) in case.looks.waiting.iter().filter(|(step, _)| *step == number) {
        why.push(format!("Pod {} does not run: {}", pod.name, pod.why));
    }
    if phase == ExecutionPhase::WaitingApproval {
        let namespace = execution.metadata.namespace.as_deref().unwrap_or_default();
        to_do.push(ToDo::run(
            "The step itself has to be approved; how, says its message:",
            case.kubectl(&format!("-n {namespace} get kubernetesexecution {name} -o yaml")),
        ));
    }
    if message.contains("quota") {
        let namespace = &case.executor_namespace;
        to_do.push(ToDo::run(
            "It is tried again by itself. To see the quota:",
            case.kubectl(&format!("-n {namespace} describe resourcequota")),
        ));
    }
    if let Some((namespace, holder)) = holder(&message) {
        to_do.push(ToDo::run(
            "It goes on by itself once the one that holds its target has ended. To see what that does:",
            case.kubectl(&format!("-n {namespace} get kubernetesexecution {holder}")),
        ));
    }
    if phase == ExecutionPhase::Executing {
        to_do.push(ToDo::run(
            format!("To read what the Job of step {number} says:"),
            format!("{} {number} --follow", case.command("logs")),
        ));
    }
}

/// Namespace and name of the execution that holds a lock, from the controller's words.
fn holder(message: &str) -> Option<(&str, &str)> {
    let (_, holder) = message.split_once(" is held by ")?;
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
        .filter(|finalizer| !finalizer.starts_with("kubernaut.io/"))
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
