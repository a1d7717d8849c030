//! Why a workflow failed, and what to do about each class of errors.

use kubernaut_crds::{ErrorType, StepState, StepStatus};

use super::super::result::{WorkflowResult, word};
use super::{Case, ToDo};
use crate::manifests::CONTROLLER_NAMESPACE;
use crate::roles;

/// Something that went wrong.
struct Failure<'a> {
    error_type: ErrorType,
    /// The controller's words.
    message: &'a str,
    /// What was acted on, such as `deployment/shop/web`; empty where nothing was.
    target: &'a str,
    /// The number of the step, where there is one.
    step: Option<i32>,
}

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
    let is_said = why.iter().any(|line| line.contains(message));
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
    let of_steps = failed.iter().map(|step| Failure {
        error_type: step
            .error_type
            .or(status.error_type)
            .unwrap_or(ErrorType::UnknownError),
        message: step.error_message.as_deref().unwrap_or(message),
        target: step.target.as_deref().unwrap_or_default(),
        step: Some(step.step_number),
    });
    let whole = failed.is_empty().then(|| Failure {
        error_type: status.error_type.unwrap_or(ErrorType::UnknownError),
        message,
        target: "",
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

impl Failure<'_> {
    fn to_do(&self, case: &Case<'_>) -> Vec<ToDo> {
        match self.error_type {
            ErrorType::ValidationError => self.invalid(case),
            ErrorType::InsufficientPermissions => self.rights(case),
            ErrorType::ResourceNotFound => self.missing(case),
            ErrorType::ResourceConflict => self.conflict(case),
            ErrorType::ResourceQuotaExceeded => self.quota(case),
            ErrorType::PolicyDenied => vec![ToDo::words(
                "A policy of your cluster's administrators said no, in the words above. Change the workflow so that it is \
                 allowed, or ask them; kubernaut policy test DIR tries policies on recorded inputs.",
            )],
            ErrorType::GitopsManaged => vec![ToDo::words(
                "Make the change in the repository that the target comes from: what is set here Argo CD or Flux would set back. \
                 Whoever runs kubernaut can allow such targets with --allow-gitops-managed.",
            )],
            ErrorType::ApprovalRejected => vec![ToDo::words(
                "Talk to who rejected it. A workflow that was rejected does not run any more; start another one once you agree.",
            )],
            ErrorType::ApprovalTimeout => vec![ToDo::words(
                "Find somebody who may approve (ClusterRole kubernaut-approve in its namespace, and not who created it), then \
                 start it again. How long is waited says the controller's --approval-timeout.",
            )],
            ErrorType::Timeout => self.too_slow(case),
            ErrorType::JobFailed => vec![
                ToDo::run(
                    "The words above are kubectl's. To read all it said, while its pod is kept:",
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
                "Mend what made the step before it fail; this one was not run.",
            )],
            ErrorType::Cancelled => vec![ToDo::words(
                "Somebody stopped or deleted it. What its steps had done by then stays, unless it was told to take it back.",
            )],
            ErrorType::UnknownError => vec![ToDo::run(
                "This is none of the classes that kubernaut knows, and may be a defect of it. What its controller logged:",
                case.kubectl(&format!(
                    "-n {CONTROLLER_NAMESPACE} logs -l app.kubernetes.io/name=kubernaut --tail=-1 | grep {}",
                    case.workflow.metadata.name.as_deref().unwrap_or_default()
                )),
            )],
        }
    }

    fn says(&self, words: &str) -> bool {
        self.message.contains(words)
    }

    fn logs(&self, case: &Case<'_>) -> String {
        let logs = case.command("logs");
        self.step.map_or(logs.clone(), |step| format!("{logs} {step}"))
    }

    /// The kind, namespace and name of the target.
    fn parts(&self) -> Option<(&str, &str, &str)> {
        let mut parts = self.target.splitn(3, '/');
        match (parts.next()?, parts.next()?, parts.next()) {
            (kind, namespace, Some(name)) => Some((kind, namespace, name)),
            (kind, name, None) => Some((kind, "", name)),
        }
    }

    /// A command that shows the target.
    fn look(&self, case: &Case<'_>, words: &str) -> ToDo {
        match self.parts() {
            Some((kind, "", name)) => ToDo::run(words, case.kubectl(&format!("describe {kind} {name}"))),
            Some((kind, namespace, name)) => ToDo::run(
                words,
                case.kubectl(&format!("-n {namespace} describe {kind} {name}")),
            ),
            None => ToDo::run(words, case.command("get")),
        }
    }

    fn invalid(&self, case: &Case<'_>) -> Vec<ToDo> {
        if self.says("is paused")
            && let Some((kind, namespace, name)) = self.parts()
        {
            return vec![ToDo::run(
                "Its rollout is paused, and nothing would roll out. To let it go on:",
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
        vec![ToDo::run(
            "Correct what is named above in the workflow's file. To check it before it is started again:",
            "kubernaut lint FILE",
        )]
    }

    fn rights(&self, case: &Case<'_>) -> Vec<ToDo> {
        if let Some(roles) = roles::to_paste(self.message) {
            return vec![ToDo::run(
                "Grant the workflow's account what it lacks, if it shall have that:",
                format!("{} <<'EOF'\n{roles}EOF", case.kubectl("apply -f -")),
            )];
        }
        if self.says("kubernaut-executor") || self.says(&format!(":{}:", case.executor_namespace)) {
            return vec![ToDo::run(
                "The action's own account lacks the right: the roles that kubernaut was installed with are not those of this \
                 version, or somebody changed them. To compare:",
                format!(
                    "kubernaut manifests | {}",
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
            "Grant the account that is named what it lacks. To print all that the workflow needs, as YAML to apply:",
            "kubernaut rights FILE",
        )]
    }

    fn missing(&self, case: &Case<'_>) -> Vec<ToDo> {
        let Some((kind, namespace, _)) = self.parts() else {
            return vec![ToDo::words(
                "Correct the name in the workflow, or bring back what is named above.",
            )];
        };
        let place = if namespace.is_empty() {
            String::new()
        } else {
            format!("-n {namespace} ")
        };
        vec![ToDo::run(
            "Correct the name in the workflow, or bring back what was deleted. To see what there is:",
            case.kubectl(&format!("{place}get {kind}")),
        )]
    }

    fn conflict(&self, case: &Case<'_>) -> Vec<ToDo> {
        if self.says("Apply failed with") {
            return vec![ToDo::words(
                "Somebody else owns the fields that are named, and nothing is taken by force: leave them out of the manifest, or \
                 give them the values that are there.",
            )];
        }
        if self.says("was changed since") {
            return vec![self.look(
                case,
                "Somebody changed it after the workflow did, and that is left alone. Decide what it shall be:",
            )];
        }
        let history = if self.target.is_empty() {
            case.command("get")
        } else {
            format!("kubernaut history {}{}", self.target, case.flags)
        };
        vec![ToDo::run(
            "Something else changed the target, or stands in the way. To see which workflows did:",
            history,
        )]
    }

    fn quota(&self, case: &Case<'_>) -> Vec<ToDo> {
        let namespace = match self.parts() {
            Some((_, namespace, _)) if !namespace.is_empty() => namespace,
            Some(_) | None => &case.executor_namespace,
        };
        vec![ToDo::run(
            "Ask for less, free some of it, or raise the quota. To see it:",
            case.kubectl(&format!("-n {namespace} describe resourcequota")),
        )]
    }

    fn too_slow(&self, case: &Case<'_>) -> Vec<ToDo> {
        if self.says("could not be confirmed stopped") {
            return vec![ToDo::words(
                "Look on the node whether the pod still runs; nothing else acts on the target until somebody has released it as \
                 the message says.",
            )];
        }
        if self.says("disruption budget") {
            return vec![ToDo::run(
                "A PodDisruptionBudget allows no eviction: let more of its pods run first, or allow more disruptions:",
                case.kubectl("get poddisruptionbudgets -A"),
            )];
        }
        vec![
            self.look(case, "See what held it up:"),
            ToDo::run("What the Job said, while its pod is kept:", self.logs(case)),
            ToDo::words(
                "If it would have ended well with more time, give the step a longer timeout: all its attempts share it.",
            ),
        ]
    }

    fn not_there(&self, case: &Case<'_>) -> Vec<ToDo> {
        let mut to_do = vec![self.look(
            case,
            "kubectl reported success, and the target is not as was wanted. To see what keeps it, its events among it:",
        )];
        if let Some(("deployment", namespace, name)) = self.parts() {
            to_do.push(ToDo::run(
                "And its pods:",
                case.kubectl(&format!("-n {namespace} get pods,replicasets | grep {name}")),
            ));
        }
        to_do
    }
}
