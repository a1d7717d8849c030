//! What goes wrong with one step, as it happens to people at night. Each has a name, so that it can be asked for.

use std::fmt;
use std::time::Duration;

use super::steps::{Step, Target};
use embedded_cluster::PodScript;

/// A kind of thing that goes wrong with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepFaultKind {
    /// The pods that it brings can't pull their image.
    ImageNeverStarts,
    /// They take long until they are ready.
    ReadinessSlow,
    /// They never are.
    ReadinessNever,
    /// A PodDisruptionBudget allows none of its evictions.
    BudgetBlocks,
    /// The quota of its target's namespace is used up.
    QuotaFull,
    /// A HorizontalPodAutoscaler sets the replicas back.
    HpaTakesBack,
    /// The node that it acts on is not Ready.
    NodeNotReady,
    /// An admission webhook refuses the change.
    WebhookRefuses,
    /// Somebody else changes its Deployment meanwhile.
    TargetChanges,
    /// Its Job's pod never starts.
    PodNeverStarts,
    /// Its Job's pod fails, and has done nothing.
    PodFails,
    /// Its Job's pod fails after its work.
    PodFailsAfterWork,
    /// Its Job disappears after its work.
    JobDisappears,
    /// Its Job's pod never ends.
    PodHangs,
    /// Its Job's pod is evicted before it does anything.
    PodEvicted,
    /// The node of its Job's pod is lost.
    PodLost,
}

/// One such thing, and which step it meets.
#[derive(Clone, Debug, PartialEq)]
pub struct StepFault {
    /// What goes wrong.
    pub kind: StepFaultKind,
    /// With which step.
    pub step: Step,
    /// How often, for what meets attempts: 1 is the first one alone.
    pub attempts: u64,
    /// How long, for what lasts: until a pod is ready, until there is room again; none is for ever.
    pub lasts: Option<Duration>,
    /// Namespace and labels of the pods that the step evicts, for a budget.
    pub evicts: Vec<(String, Vec<(String, String)>)>,
}

impl StepFaultKind {
    /// All of them, and what each is called: `{}` stands for `step N`.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::ImageNeverStarts, "image of {} never starts"),
        (Self::ReadinessSlow, "readiness of {} is slow"),
        (Self::ReadinessNever, "readiness of {} never comes"),
        (Self::BudgetBlocks, "budget blocks {}"),
        (Self::QuotaFull, "quota is full at {}"),
        (Self::HpaTakesBack, "HPA takes back {}"),
        (Self::NodeNotReady, "node of {} is not ready"),
        (Self::WebhookRefuses, "webhook refuses {}"),
        (Self::TargetChanges, "somebody changes the target of {}"),
        (Self::PodNeverStarts, "pod of {} never starts"),
        (Self::PodFails, "pod of {} fails"),
        (Self::PodFailsAfterWork, "pod of {} fails after its work"),
        (Self::JobDisappears, "Job of {} disappears after its work"),
        (Self::PodHangs, "pod of {} hangs"),
        (Self::PodEvicted, "pod of {} is evicted"),
        (Self::PodLost, "node of the pod of {} is lost"),
    ];

    /// As a person asks for it; `{}` stands for the step.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("", |(_, name)| name)
    }

    /// Why it can't meet a step of this action and target, whatever the world is; none where it can.
    pub fn unfit(self, step: &Step) -> Option<&'static str> {
        let is_deployment = matches!(step.target, Target::Deployment { .. });
        let brings_pods = is_deployment || matches!(step.target, Target::Pods { .. });
        let evicts = step.action == "drain-node"
            || matches!(&step.target, Target::Pods { labels, .. } if !labels.is_empty());
        match self {
            Self::ImageNeverStarts | Self::ReadinessSlow | Self::ReadinessNever => {
                (!brings_pods).then_some("no pods start for its sake")
            }
            Self::QuotaFull => (!is_deployment).then_some("it makes no pods beside those that are there"),
            Self::BudgetBlocks => (!evicts).then_some("it evicts no pods"),
            Self::HpaTakesBack => {
                let scales = matches!(
                    step.target,
                    Target::Deployment {
                        replicas: Some(_),
                        ..
                    }
                );
                (!scales).then_some("it scales nothing")
            }
            Self::NodeNotReady => {
                (step.action != "drain-node").then_some("only a drain needs its node to answer")
            }
            Self::TargetChanges => (!is_deployment).then_some("it acts on no Deployment"),
            Self::WebhookRefuses
            | Self::PodNeverStarts
            | Self::PodFails
            | Self::PodFailsAfterWork
            | Self::JobDisappears
            | Self::PodHangs
            | Self::PodEvicted
            | Self::PodLost => None,
        }
    }
}

impl StepFault {
    /// What becomes of the pod of the step's Job, in so many attempts before this one.
    pub(super) fn of_worker(&self, attempts_before: u64) -> Option<PodScript> {
        if attempts_before >= self.attempts {
            return None;
        }
        let code = 1;
        let words = |message: &str| message.to_owned();
        match self.kind {
            StepFaultKind::WebhookRefuses => Some(PodScript::ExitWith {
                code,
                message: words(
                    "Error from server: admission webhook \"guard.example.com\" denied the request: not at this time",
                ),
            }),
            StepFaultKind::PodNeverStarts => Some(PodScript::NeverStart {
                reason: words("ImagePullBackOff"),
                message: words("the image of the executor can't be pulled"),
            }),
            StepFaultKind::PodFails => Some(PodScript::ExitWith {
                code,
                message: words("Unable to connect to the server: EOF"),
            }),
            StepFaultKind::PodFailsAfterWork => Some(PodScript::ActAndFail {
                code,
                message: words("Unable to connect to the server: EOF"),
            }),
            StepFaultKind::JobDisappears => Some(PodScript::ActAndVanish),
            StepFaultKind::PodHangs => Some(PodScript::Hang),
            StepFaultKind::PodEvicted => Some(PodScript::Evicted),
            StepFaultKind::PodLost => Some(PodScript::Lost),
            StepFaultKind::ImageNeverStarts
            | StepFaultKind::ReadinessSlow
            | StepFaultKind::ReadinessNever
            | StepFaultKind::BudgetBlocks
            | StepFaultKind::QuotaFull
            | StepFaultKind::HpaTakesBack
            | StepFaultKind::NodeNotReady
            | StepFaultKind::TargetChanges => None,
        }
    }

    /// What becomes of pods that start for the step's sake.
    pub(super) fn of_new_pods(&self) -> Option<PodScript> {
        match self.kind {
            StepFaultKind::ImageNeverStarts => Some(PodScript::NeverStart {
                reason: "ImagePullBackOff".to_owned(),
                message: "Back-off pulling image: not found".to_owned(),
            }),
            StepFaultKind::ReadinessSlow => Some(PodScript::Run {
                after: self.lasts.unwrap_or_default(),
            }),
            StepFaultKind::ReadinessNever => Some(PodScript::Hang),
            StepFaultKind::BudgetBlocks
            | StepFaultKind::QuotaFull
            | StepFaultKind::HpaTakesBack
            | StepFaultKind::NodeNotReady
            | StepFaultKind::WebhookRefuses
            | StepFaultKind::TargetChanges
            | StepFaultKind::PodNeverStarts
            | StepFaultKind::PodFails
            | StepFaultKind::PodFailsAfterWork
            | StepFaultKind::JobDisappears
            | StepFaultKind::PodHangs
            | StepFaultKind::PodEvicted
            | StepFaultKind::PodLost => None,
        }
    }
}

impl fmt::Display for StepFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind.name().replace("{}", &self.step.words()))?;
        match (self.kind, self.lasts) {
            (StepFaultKind::ReadinessSlow, Some(lasts)) => write!(f, " ({lasts:?})"),
            (
                StepFaultKind::BudgetBlocks | StepFaultKind::QuotaFull | StepFaultKind::NodeNotReady,
                Some(lasts),
            ) => write!(f, " (for {lasts:?})"),
            _ if self.attempts == 1 => f.write_str(" (in its first attempt)"),
            _ => Ok(()),
        }
    }
}
