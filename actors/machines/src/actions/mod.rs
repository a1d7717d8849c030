//! The actions: a file for each says everything about it.
//!
//! An action is one line in the table below, a file of its name with its `Definition` and its `Operation`, and a member of
//! the parameters in the crate of the custom resources. CONTRIBUTING.md has the recipe.

mod access;
mod applied;
mod checks;
mod images;
mod inverse;
mod node;
mod replaced_pods;
mod rollback;
pub(crate) mod rollout;
mod workload;

pub(crate) mod apply_manifest;
mod cordon_node;
pub(crate) mod delete_pod;
pub(crate) mod drain_node;
pub(crate) mod patch_deployment;
pub(crate) mod rollout_restart;
mod scale_deployment;
mod scale_stateful_set;
mod uncordon_node;
mod undo;
pub(crate) mod update_config_map;
pub(crate) mod update_secret;

use std::time::Duration;

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubernaut_crds::{
    Action, ActionParameters, Attempt, KubernetesExecution, KubernetesExecutionSpec, RecordedRollback,
    RecordedUndo, StepAction, TargetRef, Undo, UndoTarget,
};
use serde_json::{Map, Value, json};

use crate::Settings;
use crate::manifest_kinds::{ParsedManifest, parse_manifest};
use crate::parameters::ValidatedExecution;
use crate::preflight::{Preflight, Refusal, Scope};
use crate::problem::Problem;
use crate::reads::{Read, ReadResults};
use crate::render::{Call, RenderError};
use crate::verify::{JobResult, Postcondition};

pub use access::AccessRequest;
pub(crate) use checks::{LEAST_TIMEOUT, bad_number};
pub(crate) use node::takes_pods;
pub use rollout::Waits;

/// One line for each action: its name here, and the file that says everything about it, which is also its member of
/// [`ActionParameters`].
macro_rules! actions {
    ($($(#[$doc:meta])* $kind:ident => $module:ident,)*) => {
        /// What can be done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ActionKind { $($(#[$doc])* $kind,)* }

        impl ActionKind {
            /// Every action.
            pub const ALL: [ActionKind; [$(stringify!($kind)),*].len()] = [$(ActionKind::$kind),*];

            /// What is so whatever its parameters are.
            pub(crate) fn definition(self) -> &'static Definition {
                match self { $(ActionKind::$kind => &$module::DEFINITION,)* }
            }
        }

        /// The kind of an action; an undo runs as what it undoes. `None` for an undo of nothing known.
        pub fn kind_of(action: &Action) -> Option<ActionKind> {
            match action {
                $(Action::$kind(_) => Some(ActionKind::$kind),)*
                Action::Undo(undo) => ActionKind::ALL.into_iter().find(|kind| kind.canonical() == undo.of),
            }
        }

        /// What an action does, by its parameters.
        pub(crate) fn operation(action: &Action) -> Box<dyn Operation + '_> {
            match action {
                $(Action::$kind(parameters) => Box::new($module::Operation(parameters)),)*
                Action::Undo(undo) => Box::new(undo::Operation(undo)),
            }
        }

        /// What each member of parameters that nobody checked does, and how its payload travels.
        pub(crate) fn unchecked(parameters: &ActionParameters) -> Vec<(Box<dyn Operation + '_>, Payload)> {
            let mut members: Vec<(Box<dyn Operation + '_>, Payload)> = Vec::new();
            $(if let Some(parameters) = &parameters.$module {
                members.push((Box::new($module::Operation(parameters)), $module::DEFINITION.payload));
            })*
            members
        }
    };
}

actions! {
    /// Set the number of replicas.
    ScaleDeployment => scale_deployment,
    /// Set the number of replicas of a StatefulSet.
    ScaleStatefulSet => scale_stateful_set,
    /// Start new pods of a Deployment.
    RolloutRestart => rollout_restart,
    /// Delete or evict pods.
    DeletePod => delete_pod,
    /// Patch a Deployment.
    PatchDeployment => patch_deployment,
    /// Keep new pods off a node.
    CordonNode => cordon_node,
    /// Let new pods onto a node again.
    UncordonNode => uncordon_node,
    /// Move the pods off a node.
    DrainNode => drain_node,
    /// Set keys of a ConfigMap.
    UpdateConfigMap => update_config_map,
    /// Set keys of a Secret.
    UpdateSecret => update_secret,
    /// Apply a manifest.
    ApplyManifest => apply_manifest,
}

/// What is so of an action whatever its parameters are. Each says all of it: what is left out does not compile.
#[expect(
    clippy::struct_excessive_bools,
    reason = "one answer to each question about an action"
)]
pub(crate) struct Definition {
    /// How it is written. The first name of the first spelling is the canonical one.
    pub(crate) spellings: &'static [Spelling],
    /// The account in the executor namespace that its Jobs run as.
    pub(crate) service_account: &'static str,
    /// What that account may do.
    pub(crate) rules: fn(&Settings) -> Vec<PolicyRule>,
    /// Which part of its target it changes: as much the API server lets the account change.
    pub(crate) changes: Changes,
    /// What its target is called in sentences, such as `Deployment`.
    pub(crate) noun: &'static str,
    /// It acts on a node: it takes the lock on nodes, and its pod tolerates a cordon.
    pub(crate) on_node: bool,
    /// It acts on pods that are resolved once, before its first attempt.
    pub(crate) acts_on_pods: bool,
    /// Whether and how its outcome is a rollout.
    pub(crate) rollout: Rollout,
    /// How its payload travels to kubectl.
    pub(crate) payload: Payload,
    /// The shortest timeout of a step.
    pub(crate) least_timeout: Duration,
    /// When its Job is gone without a word, another attempt may follow: what is read afterwards shows whether it took effect, or doing
    /// it twice is no harm.
    pub(crate) provable_when_lost: bool,
    /// An attempt that failed may have changed a part of it, whatever it was refused.
    pub(crate) fails_half_done: bool,
    /// Each attempt records when it began, and writes that into its target.
    pub(crate) records_its_time: bool,
    /// Parameters of an execution, for tables and tests that go over all actions: one for each variant.
    pub(crate) samples: fn() -> Vec<(Variant, Value)>,
}

/// How an action is written.
#[derive(Debug)]
pub(crate) struct Spelling {
    /// What it promises.
    pub(crate) variant: Variant,
    /// The member of a step's parameters that it goes with.
    pub(crate) step_member: &'static str,
    /// The names.
    pub(crate) names: &'static [&'static str],
    /// Fields of an execution's parameters that are called otherwise in a step's.
    pub(crate) step_fields: &'static [(&'static str, &'static str)],
}

/// What the name of an action promises beyond its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// No more than its parameters say.
    Plain,
    /// `restart-pod`: something brings the pods back.
    RestartPod,
    /// `update-image`: the patch sets images of containers that are there, and nothing else.
    UpdateImage,
}

/// Which part of its target an action changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Whatever the step says: a patch, a manifest.
    Anything,
    /// The subresource `scale`.
    Scale,
    /// The annotations of a restart, in the pod template.
    RestartAnnotations,
    /// It deletes or evicts pods.
    Pods,
    /// Whether a node takes pods.
    Schedulability,
    /// Whether a node takes pods; and it evicts those that are there, also in protected namespaces.
    SchedulabilityAndPods,
    /// `data`.
    Data,
}

/// Whether the outcome of an action is a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rollout {
    /// It is none.
    None,
    /// New pods replace old ones: one that does not start for a minute fails the step.
    Replaces,
    /// Pods of the same template are added or taken away: one that waits for a node may get one.
    Resizes,
}

/// How the payload of an action travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// As annotations of the pod, which whoever reads pods can read.
    Annotations,
    /// In a Secret, which is deleted with its attempt.
    Secret,
}

/// What a rehearsal needs of the world around an action's target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A Deployment or a StatefulSet with containers of these names, where they are known, and its pods.
    Workload {
        /// Names of containers that are spoken of.
        containers: Vec<String>,
    },
    /// One pod.
    Pod {
        /// Something has to bring it back.
        controlled: bool,
    },
    /// The pods of a selector.
    Pods {
        /// Label selector.
        selector: String,
        /// Those on this node alone.
        node: Option<String>,
    },
    /// A node.
    Node {
        /// It is cordoned before.
        cordoned: bool,
        /// Its pods are evicted.
        emptied: bool,
    },
    /// A ConfigMap with these keys.
    ConfigMap {
        /// Keys.
        keys: Vec<String>,
    },
    /// A Secret with these keys.
    Secret {
        /// Keys.
        keys: Vec<String>,
    },
    /// An object that need not be there.
    Any {
        /// Its apiVersion; `None` where it could not be read.
        api_version: Option<String>,
    },
}

/// Where parameters are checked.
#[derive(Clone, Copy)]
pub(crate) struct CheckContext<'a> {
    /// What the action's name promises.
    pub(crate) variant: Variant,
    /// As it is spelled.
    pub(crate) spelling: &'a str,
    /// Of an applyManifest, where it could be read.
    pub(crate) manifest: Option<&'a ParsedManifest>,
    /// The controller's flags.
    pub(crate) settings: &'a Settings,
}

/// Where a target is examined before the first Job.
#[derive(Clone, Copy)]
pub(crate) struct Examination<'a> {
    /// Of what.
    pub(crate) checked: &'a ValidatedExecution,
    /// The target; null where it is not there, or is not read.
    pub(crate) object: &'a Value,
    /// The pods of the first attempt, once it has ended.
    pub(crate) earlier: Option<&'a [kubernaut_crds::PodRef]>,
    /// All that was read.
    pub(crate) facts: &'a ReadResults,
    /// The controller's flags.
    pub(crate) settings: &'a Settings,
}

/// What a Job is made of.
#[derive(Clone, Copy)]
pub(crate) struct JobContext<'a> {
    /// The execution.
    pub(crate) execution: &'a KubernetesExecution,
    /// The execution, checked.
    pub(crate) checked: &'a ValidatedExecution,
    /// The attempt that was recorded.
    pub(crate) attempt: &'a Attempt,
    /// Seconds after which kubectl gives up by itself.
    pub(crate) patience: i64,
    /// It is to be tried without changing anything.
    pub(crate) dry_run: bool,
}

/// Where an outcome is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    /// The execution.
    pub(crate) execution: &'a KubernetesExecution,
    /// The execution, checked.
    pub(crate) checked: &'a ValidatedExecution,
    /// The attempt that is looked at.
    pub(crate) attempt: &'a Attempt,
    /// The target; null where it is not there, or is not read.
    pub(crate) object: &'a Value,
    /// All that was read.
    pub(crate) facts: &'a ReadResults,
    /// How the Job ended.
    pub(crate) what: JobResult,
}

/// What an action does, by its parameters. No method has a default: an action that has nothing to say says so.
pub(crate) trait Operation {
    /// What is acted on.
    fn target(&self, manifest: Option<&ParsedManifest>) -> TargetRef;
    /// The manifest that it applies, as it was written.
    fn manifest(&self) -> Option<&str>;
    /// What is wrong with names, ranges and content, each with its field.
    fn problems(&self, context: CheckContext<'_>) -> Vec<Problem>;
    /// What its name promises and its parameters do not keep; a sentence of its own.
    fn problem_of_variant(&self, context: CheckContext<'_>) -> Option<Problem>;
    /// The field that travels with the Job, and its size in bytes.
    fn payload_size(&self, manifest: Option<&ParsedManifest>) -> Option<(&'static str, usize)>;
    /// Values that nobody may see: they are masked in whatever kubectl or the API server say.
    fn secrets(&self) -> Vec<&str>;
    /// What the workflow's account must be allowed, given the rules of the action's own account.
    fn rights(
        &self,
        rules: &[PolicyRule],
        target: &TargetRef,
        manifest: Option<&ParsedManifest>,
    ) -> Vec<AccessRequest>;
    /// A right that the action can do without. What an account may not list is not told to whoever reads its executions; that is
    /// no reason to run nothing.
    fn optional_right(&self) -> Option<AccessRequest>;
    /// apiVersion by which the target is read; `None` where there is not one target, or it may not be read.
    fn target_version(&self, manifest: Option<&ParsedManifest>) -> Option<String>;
    /// The target need not be there before.
    fn may_create_its_target(&self) -> bool;
    /// What is read before the first Job beside the target.
    fn reads_before(&self, scope: Scope) -> Vec<Read>;
    /// Whether the target may be changed, how it is now, and how the change is taken back.
    fn examine(&self, at: Examination<'_>, preflight: &mut Preflight) -> Result<(), Refusal>;
    /// What a later attempt keeps of the first one's generation: a JSON patch, say, tests that.
    fn keeps_first_generation(&self) -> bool;
    /// The node that its pod had better not run on.
    fn avoids_node(&self) -> Option<&str>;
    /// What kubectl is called with; of a dry run, in a form by which nothing is changed.
    fn call(&self, job: JobContext<'_>) -> Result<Call, RenderError>;
    /// What is read afterwards beside the target, given what was read.
    fn reads_after(&self, attempt: &Attempt, target: Option<&Value>, facts: &ReadResults) -> Vec<Read>;
    /// Whether the outcome is what was wanted (docs/actions.md).
    fn outcome(&self, look: Look<'_>) -> Postcondition;
    /// The part of an object that the action changes, of the target or of what was recorded of it; `None` where there is no way
    /// back.
    fn part(&self, object: &Value, manifest: Option<&ParsedManifest>) -> Option<Value>;
    /// What the action names of that part, in the shape of the object: only this is taken back. `None` where it is all of it.
    fn named(&self, _manifest: Option<&ParsedManifest>) -> Option<Value> {
        None
    }
    /// A line for a person's shell that takes the change back; `None` where kubectl has none.
    fn undo_by_hand(
        &self,
        variant: Variant,
        recorded: &RecordedRollback,
        target: &TargetRef,
    ) -> Option<String>;
    /// What a rehearsal needs of the world.
    fn subject(&self, variant: Variant, manifest: Option<&ParsedManifest>) -> Subject;
}

/// What takes back what an action did, given its target as it is now.
pub(crate) fn inverse(
    checked: &ValidatedExecution,
    recorded: &RecordedRollback,
    object: &Value,
) -> Option<RecordedUndo> {
    let operation = operation(&checked.action);
    let manifest = checked.manifest.as_ref();
    let named = operation.named(manifest);
    inverse::inverse_of(recorded, object, named.as_ref(), |object| {
        operation.part(object, manifest)
    })
}

/// What the account of a workflow must be allowed to take back what an execution of it does; nothing where there is no way
/// back, or where it can't be run at all.
pub fn rights_to_undo(execution: &KubernetesExecution, settings: &Settings) -> Vec<AccessRequest> {
    let Ok(checked) = crate::parameters::check(execution, settings) else {
        return Vec::new();
    };
    let operation = operation(&checked.action);
    let manifest = checked.manifest.as_ref();
    let Some(api_version) = operation.target_version(manifest) else {
        return Vec::new();
    };
    if operation.part(&Value::Null, manifest).is_none() {
        return Vec::new();
    }
    let target = &checked.target;
    let undo = |delete: bool| Undo {
        of: checked.kind.canonical().to_owned(),
        target: UndoTarget {
            api_version: api_version.clone(),
            kind: target.kind.clone(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            uid: None,
        },
        patch: None,
        delete: delete.then_some(true),
    };
    let rules = checked.kind.rules(settings);
    let rights = |delete| {
        let undo = undo(delete);
        Operation::rights(&undo::Operation(&undo), &rules, target, manifest)
    };
    let mut all = rights(false);
    if operation.may_create_its_target() {
        all.extend(rights(true));
    }
    all.sort();
    all.dedup();
    all
}

impl ActionKind {
    /// The action of a canonical name, as --actions takes it.
    ///
    /// # Errors
    /// In words for a person, with all names.
    pub fn named(name: &str) -> Result<ActionKind, String> {
        let mut all = ActionKind::ALL.into_iter();
        if let Some(kind) = all.find(|kind| kind.canonical() == name) {
            return Ok(kind);
        }
        let mut all = ActionKind::ALL.into_iter();
        let other = all.find(|kind| kind.spellings().any(|spelling| spelling == name));
        let hint = other.map_or(String::new(), |kind| {
            format!("{} stands for it; ", kind.canonical())
        });
        let names = ActionKind::ALL.map(ActionKind::canonical);
        Err(format!(
            "{name:?} is not the name of an action: {hint}there are {}",
            names.join(", ")
        ))
    }

    /// Its one name in metrics, logs and results.
    pub fn canonical(self) -> &'static str {
        self.spellings().next().unwrap_or_default()
    }

    /// Every spelling of `action` that fits it; the first is canonical.
    pub fn spellings(self) -> impl Iterator<Item = &'static str> {
        let spellings = self.definition().spellings.iter();
        spellings.flat_map(|spelling| spelling.names).copied()
    }

    /// What one of its spellings promises; plain where it is none.
    pub fn variant(self, spelling: &str) -> Variant {
        let mut spellings = self.definition().spellings.iter();
        let found = spellings.find(|known| known.names.contains(&spelling));
        found.map_or(Variant::Plain, |known| known.variant)
    }

    /// The account in the executor namespace that its Jobs run as.
    pub fn service_account(self) -> &'static str {
        self.definition().service_account
    }

    /// The ClusterRole (and binding) of that account.
    pub fn cluster_role(self) -> String {
        format!("kubernaut-{}", self.canonical())
    }

    /// Acts on a node: takes the lock on nodes, and tolerates a cordon.
    pub fn is_node_action(self) -> bool {
        self.definition().on_node
    }

    /// Which part of its target it changes.
    pub fn changes(self) -> Changes {
        self.definition().changes
    }

    /// Parameters of an execution that could be run, at least one for each variant: for whatever goes over all actions.
    pub fn samples(self) -> Vec<(Variant, Value)> {
        (self.definition().samples)()
    }

    /// The actions of which none of these spellings is one: what a table that has a case for each lacks.
    pub fn lacking(spellings: &[&str]) -> Vec<&'static str> {
        let is_lacking = |kind: &ActionKind| !kind.spellings().any(|spelling| spellings.contains(&spelling));
        ActionKind::ALL
            .into_iter()
            .filter(is_lacking)
            .map(ActionKind::canonical)
            .collect()
    }

    /// What the account may do.
    pub fn rules(self, settings: &Settings) -> Vec<PolicyRule> {
        (self.definition().rules)(settings)
    }
}

/// The parameters of a step as somebody may write them.
#[derive(Clone, Debug, PartialEq)]
pub struct StepExample {
    /// What it does.
    pub kind: ActionKind,
    /// The member of its parameters.
    pub member: &'static str,
    /// Fields of that member with values; of those that a step calls otherwise some may be of another type.
    pub fields: Map<String, Value>,
}

/// An example for an action in one of its spellings; `None` where there is no such action.
pub fn example_of(spelling: &str) -> Option<StepExample> {
    ActionKind::ALL.into_iter().find_map(|kind| {
        let definition = kind.definition();
        let mut spellings = definition.spellings.iter();
        let known = spellings.find(|known| known.names.contains(&spelling))?;
        let mut samples = kind.samples().into_iter();
        let (_, sample) = samples.find(|(variant, _)| *variant == known.variant)?;
        let own = sample.as_object()?.values().next()?.as_object()?.clone();
        let mut fields = Map::new();
        for (name, value) in own {
            let renamed = known.step_fields.iter().find(|(own, _)| *own == name);
            let path = renamed.map_or(name.as_str(), |(_, other)| *other);
            match path.split_once('.') {
                Some((outer, inner)) => drop(fields.insert(outer.to_owned(), json!({inner: value}))),
                None => drop(fields.insert(path.to_owned(), value)),
            }
        }
        Some(StepExample {
            kind,
            member: known.step_member,
            fields,
        })
    })
}

/// Why `action` is no known spelling for the member that the executor sees.
pub(crate) fn check_spelling(spelling: &str, action: &Action) -> Option<Problem> {
    let fitting: Vec<&str> = match (action, kind_of(action)) {
        (Action::Undo(_), _) => vec!["undo"],
        (_, kind) => kind.into_iter().flat_map(ActionKind::spellings).collect(),
    };
    misfit(spelling, action.member(), &fitting)
}

/// Why `action` is no known spelling for the member of a step.
pub(crate) fn check_step_spelling(spelling: &str, action: &StepAction) -> Option<Problem> {
    let member = action.member();
    let all = ActionKind::ALL.into_iter();
    let spellings = all.flat_map(|kind| kind.definition().spellings);
    let fitting = spellings.filter(|known| known.step_member == member);
    let fitting: Vec<&str> = fitting.flat_map(|known| known.names).copied().collect();
    misfit(spelling, member, &fitting)
}

/// What a step calls a field of an execution's parameters, below the member: of a field within it, its parent's name changes.
pub(crate) fn step_field(action: &StepAction, field: &str) -> String {
    let member = action.member();
    let all = ActionKind::ALL.into_iter();
    let mut spellings = all.flat_map(|kind| kind.definition().spellings);
    let fields = spellings.find(|known| known.step_member == member);
    let (first, rest) = field.split_once('.').unwrap_or((field, ""));
    let renamed = fields.and_then(|known| known.step_fields.iter().find(|(name, _)| *name == first));
    let first = renamed.map_or(first, |(_, other)| other);
    let parts = ["parameters", member, first, rest].into_iter();
    parts
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(".")
}

/// The kind of a step's action.
pub(crate) fn kind_of_step(action: &StepAction) -> Option<ActionKind> {
    let member = action.member();
    ActionKind::ALL.into_iter().find(|kind| {
        let mut spellings = kind.definition().spellings.iter();
        spellings.any(|known| known.step_member == member)
    })
}

fn misfit(spelling: &str, member: &str, fitting: &[&str]) -> Option<Problem> {
    if fitting.contains(&spelling) {
        return None;
    }
    let fitting = fitting.join(" or ");
    let message = format!("{spelling:?} does not fit parameters.{member}: write {fitting}");
    Some(Problem::misfit(message))
}

/// What is acted on; `manifest` is that of an applyManifest, where it could be read.
pub fn target_of(action: &Action, manifest: Option<&ParsedManifest>) -> TargetRef {
    operation(action).target(manifest)
}

/// What an execution acts on, and what a rehearsal needs of the world around that. A manifest that can't be read is none.
pub fn subject_of(spec: &KubernetesExecutionSpec) -> Option<(TargetRef, Subject)> {
    let action = Action::try_from(spec.parameters.clone()).ok()?;
    let operation = operation(&action);
    let manifest = operation.manifest().and_then(|text| parse_manifest(text).ok());
    let variant = kind_of(&action)?.variant(&spec.action);
    let target = operation.target(manifest.as_ref());
    Some((target, operation.subject(variant, manifest.as_ref())))
}

/// The target in a word, `deployment/production/web` or `node/n1`.
pub fn target_name(target: &TargetRef) -> String {
    let kind = target.kind.to_lowercase();
    match &target.namespace {
        Some(namespace) => format!("{kind}/{namespace}/{}", target.name),
        None => format!("{kind}/{}", target.name),
    }
}

/// A target in a namespace.
fn namespaced(kind: &str, namespace: &str, name: &str) -> TargetRef {
    TargetRef {
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
