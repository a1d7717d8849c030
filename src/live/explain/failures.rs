//! Why a workflow failed, and what to do about each class of errors.

use kubernaut_crds::{ErrorType, StepState, StepStatus, TargetRef};

use kubernaut_machines::waiting::Obstacle;

use super::super::result::{WorkflowResult, word};
use super::{Case, ToDo};
use crate::roles;

/// Something that went wrong.
struct Failure<'a> {
    error_type: ErrorType,
    /// The controller's words.
    message: &'a str,
    target: Target<'a>,
    /// The number of the step, where there is one.
    step: Option<i32>,
}

/// What was acted on, such as `deployment/shop/web`.
#[derive(Clone, Copy)]
struct Target<'a>(&'a str);

/// Says why it failed, and what to do.
pub(super) fn explain(
    case: &Case<'_>,
    result: &WorkflowResult,
    why: &mut Vec<String>,
    to_do: &mut Vec<ToDo>,
) {
    let status = case.workflow.status.clone().unwrap_or_default();
    let failed: Vec<&StepStatus> = status
        .step_statuses
        .iter()
        .filter(|step| step.status == StepState::Failed)
        .collect();
    for step in &failed {
        why.push(step_failed(case, step));
        let pods = case
            .looks
            .waiting
            .iter()
            .filter(|(number, _)| *number == step.step_number);
        why.extend(pods.map(|(_, pod)| format!("Pod {} does not run: {}", pod.name, pod.why)));
    }
    let message = result.message.as_deref().unwrap_or_default();
    let is_said = failed.iter().any(|step| {
        let own = step.error_message.as_deref().unwrap_or_default();
        !own.is_empty() && message.contains(own)
    });
    if !is_said && !message.is_empty() {
        why.push(message.to_owned());
    }
    let skipped: Vec<String> = status
        .step_statuses
        .iter()
        .filter(|step| step.status == StepState::Skipped)
        .map(|step| step.step_number.to_string())
        .collect();
    if !skipped.is_empty() {
        why.push(format!("Not run because of it: step {}.", skipped.join(", ")));
    }
    if failed.is_empty() && status.error_type.is_none() {
        // It completed, and what its steps did has not lasted.
        let targets = status
            .step_statuses
            .iter()
            .filter_map(|step| step.target.as_deref());
        to_do.extend(targets.map(|target| {
            let failure = Failure {
                error_type: ErrorType::VerificationFailed,
                message,
                target: Target(target),
                step: None,
            };
            failure.look(
                case,
                "All its steps completed, and a target is not well afterwards. To see it:",
            )
        }));
        return;
    }
    let of_steps = failed.iter().map(|step| Failure {
        error_type: step
            .error_type
            .or(status.error_type)
            .unwrap_or(ErrorType::UnknownError),
        message: step.error_message.as_deref().unwrap_or(message),
        target: Target(step.target.as_deref().unwrap_or_default()),
        step: Some(step.step_number),
    });
    let whole = failed.is_empty().then(|| Failure {
        error_type: status.error_type.unwrap_or(ErrorType::UnknownError),
        message,
        target: Target(""),
        step: status.failed_step,
    });
    for failure in of_steps.chain(whole) {
        to_do.extend(failure.to_do(case));
    }
}

fn step_failed(case: &Case<'_>, step: &StepStatus) -> String {
    let number = step.step_number;
    let name = step.name.as_deref().unwrap_or(&step.action);
    let attempts = step.attempt.filter(|attempts| *attempts > 1);
    let attempts = attempts.map_or_else(String::new, |attempts| format!(" after {attempts} attempts"));
    let class = step.error_type.map(word);
    let class = class.map_or_else(String::new, |class| format!(" ({class})"));
    let execution = case
        .executions
        .iter()
        .find(|execution| execution.spec.step_number == number);
    let said = step.error_message.as_deref().or_else(|| {
        let status = execution?.status.as_ref()?;
        status.failure_reason.as_deref()
    });
    format!(
        "Step {number} ({name}) failed{attempts}{class}: {}",
        said.unwrap_or("nothing more is known")
    )
}

/// Nobody can say whether its pod still acts on the target.
fn still_acting(case: &Case<'_>) -> ToDo {
    ToDo::run(
        "Look on its node whether the pod still runs. Nothing else acts on the target, a retry included, until the pod is gone, or \
         until you have released it by the command in the words above. To find the pod and its node:",
        case.kubectl(&format!("-n {} get pods -o wide", case.executor_namespace)),
    )
}

impl<'a> Target<'a> {
    /// The kind, namespace and name.
    fn parts(self) -> Option<(&'a str, &'a str, &'a str)> {
        let mut parts = self.0.splitn(3, '/');
        match (parts.next()?, parts.next()?, parts.next()) {
            (kind, namespace, Some(name)) => Some((kind, namespace, name)),
            (kind, name, None) => Some((kind, "", name)),
        }
    }

    /// How kubectl names it: `-n shop describe pods -l 'app=web'`, with the verb that is given.
    fn for_kubectl(self, verb: &str) -> Option<String> {
        let (kind, namespace, name) = self.parts()?;
        let place = if namespace.is_empty() {
            String::new()
        } else {
            format!("-n {namespace} ")
        };
        if !TargetRef::is_selector(name) {
            return Some(format!("{place}{verb} {kind} {name}"));
        }
        let selector = name.trim_matches(['(', ')']);
        let (labels, node) = match selector.split_once(" on node ") {
            Some((labels, node)) => (labels, format!(" --field-selector spec.nodeName={node}")),
            None => (selector, String::new()),
        };
        Some(format!("{place}{verb} {kind}s -l '{labels}'{node}"))
    }
}

impl Failure<'_> {
    fn to_do(&self, case: &Case<'_>) -> Vec<ToDo> {
        if self.says("could not be confirmed stopped") {
            return vec![still_acting(case)];
        }
        match self.error_type {
            ErrorType::ValidationError => self.invalid(case),
            ErrorType::InsufficientPermissions => self.rights(case),
            ErrorType::ResourceNotFound => self.missing(case),
            ErrorType::ResourceConflict => self.conflict(case),
            ErrorType::ResourceQuotaExceeded => self.quota(case),
            ErrorType::PolicyDenied => vec![ToDo::words(
                "A policy of your cluster's administrators said no, in the words above. Change the workflow so that it is \
                 allowed, or ask them.",
            )],
            ErrorType::GitopsManaged => vec![ToDo::words(
                "Make the change in the repository that the target comes from: Argo CD or Flux would revert a change made here.",
            )],
            ErrorType::ApprovalRejected => vec![ToDo::words(
                "Talk to the person who rejected it. It will not run again; start a new one once you agree.",
            )],
            ErrorType::ApprovalTimeout => vec![ToDo::words(
                "Nobody approved in time. Find an approver (ClusterRole kubernaut-approve in its namespace, and not who created \
                 it), then start it again. The limit is the controller's --approval-timeout.",
            )],
            ErrorType::Timeout => self.too_slow(case),
            ErrorType::JobFailed => vec![
                ToDo::run(
                    "Its Job failed. To read all that it said, while its pod is kept:",
                    self.logs(case),
                ),
                self.look(case, "To see the target as it is now:"),
            ],
            ErrorType::JobLost => vec![self.look(
                case,
                "Nobody knows whether the action took effect: look at the target before it is run again:",
            )],
            ErrorType::VerificationFailed => self.not_there(case),
            ErrorType::DependencyFailed => vec![ToDo::words(
                "Fix what made the earlier step fail; this one was not run.",
            )],
            ErrorType::Cancelled => vec![ToDo::words(
                "Somebody stopped or deleted it. What its steps had done by then stays, unless it was told to undo it.",
            )],
            ErrorType::UnknownError => vec![ToDo::run(
                "kubernaut does not recognise this error. What its controller logged:",
                case.controller_log(),
            )],
        }
    }

    fn says(&self, words: &str) -> bool {
        self.message.contains(words)
    }

    fn logs(&self, case: &Case<'_>) -> String {
        let logs = case.logs();
        self.step.map_or(logs.clone(), |step| format!("{logs} {step}"))
    }

    /// A command that shows the target.
    fn look(&self, case: &Case<'_>, words: &str) -> ToDo {
        match self.target.for_kubectl("describe") {
            Some(describe) => ToDo::run(words, case.kubectl(&describe)),
            None => ToDo::run(words, case.command("get")),
        }
    }

    fn invalid(&self, case: &Case<'_>) -> Vec<ToDo> {
        if self.says("is paused")
            && let Some((kind, namespace, name)) = self.target.parts()
        {
            return vec![ToDo::run(
                "Somebody paused its rollout: ask them, for resuming it rolls out every change since. To resume it:",
                case.kubectl(&format!("-n {namespace} rollout resume {kind}/{name}")),
            )];
        }
        if self.says("last schedulable node") {
            return vec![ToDo::run(
                "Its pods would have nowhere to go. To see which nodes take pods, and uncordon another one:",
                case.kubectl("get nodes"),
            )];
        }
        if self.says("has no container") {
            return vec![self.look(case, "Name one of its containers:")];
        }
        if self.says("degraded") {
            return vec![self.look(
                case,
                "The target was not well before the first step: fix it, or take the check out of safetyChecks:",
            )];
        }
        vec![ToDo::run(
            "Correct in the workflow's file what is named above. To check it before it is started again:",
            format!("kubernaut plan FILE{}", case.placed()),
        )]
    }

    fn rights(&self, case: &Case<'_>) -> Vec<ToDo> {
        // Words that were cut end anywhere.
        if let Some(roles) = roles::to_paste(self.message).filter(|_| !self.says("(cut)")) {
            return vec![ToDo::run(
                "Grant the workflow's account what it lacks, if it should have it. This adds rights, and takes none away:",
                format!("{} <<'EOF'\n{roles}EOF", case.kubectl("auth reconcile -f -")),
            )];
        }
        if self.says("install the manifests") || self.is_of_executor(case) {
            return vec![ToDo::run(
                "An account of kubernaut's own is missing, or lacks a right: its roles are not those of this version, or somebody \
                 changed them. To compare, with the flags of your controller:",
                format!(
                    "kubernaut manifests [FLAGS] | {}",
                    case.kubectl("diff --server-side -f -")
                ),
            )];
        }
        if self.says("does not exist") {
            return vec![ToDo::words(
                "Create the ServiceAccount that spec.serviceAccountName names, or take the name out: then it is the account \
                 default of the namespace.",
            )];
        }
        vec![ToDo::run(
            "Grant the account that is named above what it lacks; where it is the controller's, or a webhook refused it, ask whoever \
             runs kubernaut. All that the workflow's own account needs:",
            "kubernaut rights FILE",
        )]
    }

    /// Whether the words are about an account, or the namespace, of the Jobs.
    fn is_of_executor(&self, case: &Case<'_>) -> bool {
        self.says(&format!(":{}:", case.executor_namespace))
            || self.says(&format!("namespace {}", case.executor_namespace))
    }

    fn missing(&self, case: &Case<'_>) -> Vec<ToDo> {
        if self.says("serviceaccount") || self.is_of_executor(case) {
            return self.rights(case);
        }
        let Some((kind, namespace, name)) = self.target.parts() else {
            return vec![ToDo::words(
                "Correct the name in the workflow, or bring back what is named above.",
            )];
        };
        let place = if namespace.is_empty() {
            String::new()
        } else {
            format!("-n {namespace} ")
        };
        let what = if TargetRef::is_selector(name) {
            "selector"
        } else {
            "name"
        };
        vec![ToDo::run(
            format!(
                "Correct the {what} in the workflow, or bring back what was deleted. To see what there is:"
            ),
            case.kubectl(&format!("{place}get {kind}s --show-labels")),
        )]
    }

    fn conflict(&self, case: &Case<'_>) -> Vec<ToDo> {
        if let Some(budgets) = self.budgets(case) {
            return vec![budgets];
        }
        if self.says("Apply failed with") || self.says("managed by") {
            return vec![ToDo::words(
                "Somebody else owns the fields that are named, and nothing is taken by force: leave them out of the manifest, or \
                 give them the values that are there.",
            )];
        }
        if self.says("was changed since") {
            return vec![self.look(
                case,
                "Somebody changed it after the workflow did, and that is left alone. Decide what it should be:",
            )];
        }
        if self.says("already there") || self.says("exists") {
            return vec![ToDo::words(
                "Another object has the name that is needed; the message says which one. Delete it if nobody needs it.",
            )];
        }
        let history = if self.target.parts().is_none() {
            case.command("get")
        } else {
            format!("kubernaut history '{}'{}", self.target.0, case.flags)
        };
        vec![ToDo::run(
            "Something else changed the target, or stands in the way. To see which workflows did:",
            history,
        )]
    }

    /// What to do where disruption budgets let no pod go.
    fn budgets(&self, case: &Case<'_>) -> Option<ToDo> {
        self.says("disruption budget").then(|| {
            ToDo::run(
                "A PodDisruptionBudget allows no eviction: let more of its pods run first, or allow more disruptions. To see them:",
                case.kubectl("get poddisruptionbudgets -A"),
            )
        })
    }

    fn quota(&self, case: &Case<'_>) -> Vec<ToDo> {
        let of_job =
            self.says("waits for quota") || self.says("Job could not be made") || self.is_of_executor(case);
        let namespace = match self.target.parts() {
            Some((_, namespace, _)) if !namespace.is_empty() && !of_job => namespace,
            Some(_) | None => &case.executor_namespace,
        };
        vec![ToDo::run(
            "Ask for less, free some of it, or raise the quota. To see it:",
            case.kubectl(&format!("-n {namespace} describe resourcequota")),
        )]
    }

    fn too_slow(&self, case: &Case<'_>) -> Vec<ToDo> {
        if let Some(budgets) = self.budgets(case) {
            return vec![budgets];
        }
        if self.says("API server") {
            return vec![ToDo::words(
                "The API server did not answer in time: see that it does, then run it again.",
            )];
        }
        vec![
            self.look(case, "To see what held it up:"),
            ToDo::run("What the Job said, while its pod is kept:", self.logs(case)),
            ToDo::words(
                "If it would have ended well with more time, give the step a longer timeout: all its attempts share it.",
            ),
        ]
    }

    fn not_there(&self, case: &Case<'_>) -> Vec<ToDo> {
        if self.says("nothing is known to be wrong") {
            return vec![self.look(
                case,
                "It was slower than the step's timeout, and goes on by itself: look once more before you undo anything, and give the \
                 step a longer timeout next time:",
            )];
        }
        let mut to_do = vec![self.look(
            case,
            "The change was made, and the target did not come to what was wanted. To see what keeps it, including its events:",
        )];
        if let Some(("deployment" | "statefulset", namespace, _)) = self.target.parts() {
            let mut waiting = case.looks.waiting.iter();
            let crashed = waiting.find(|(_, pod)| pod.obstacle == Some(Obstacle::Crash));
            to_do.push(match crashed.map(|(_, pod)| pod.name.as_str()) {
                Some(pod) => ToDo::run(
                    "What its pod said before it ended:",
                    case.kubectl(&format!("-n {namespace} logs {pod} --previous")),
                ),
                None => ToDo::run("And its pods:", case.kubectl(&format!("-n {namespace} get pods"))),
            });
        }
        to_do
    }
}
