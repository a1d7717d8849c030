//! The outcome: is it true? Asked after a success, and before a failure is believed.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kubernaut_crds::{
    Attempt, AttemptOutcome, ConditionReason, ConditionType, ErrorType, ExecutionPhase, MicroTime, Retry,
    RollbackInformation,
};

use super::StepCommand;
use super::attempts::MESSAGE_MAX;
use super::machine::{Flow, Hold, Purpose, StepMachine};
use crate::actions::{Rollout, inverse};
use crate::api_command::{ApiCommand, ApiFailure};
use crate::classify::{Failure, cut};
use crate::defect::{Defect, planted};
use crate::duration::format_go;
use crate::job_run::Ended;
use crate::parameters::ValidatedExecution;
use crate::problem::Problem;
use crate::reads::{Read, ReadResults};
use crate::time::{later, seconds_between};
use crate::undoing::changes_nothing;
use crate::verify::{self, JobResult, Postcondition, Waits};
use crate::waiting::{Obstacle, WaitingPod};

/// After the Job's end the outcome gets at least this long, however much of the timeout the Job took
/// (docs/executions.md, Attempts and Jobs).
const OUTCOME_MIN: Duration = Duration::from_secs(30);
/// A pod may meet an obstacle for this long: some pass, such as a registry that is away for a moment.
const OBSTACLE_MAX: Duration = Duration::from_secs(60);
/// From then on the status tells why pods wait, and after that more and more rarely.
const TELL_AFTER: Duration = Duration::from_secs(10);

/// One look at the target, which may take several reads after each other.
#[derive(Clone, Debug, Default)]
struct Look {
    facts: ReadResults,
    /// What is being read.
    asked: Vec<Read>,
    /// The controller may not read what it would have to, or got no answer while there was time.
    unreadable: Option<String>,
}

/// The wait for the outcome.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    look: Option<Look>,
    /// How many looks there were.
    looks: u32,
    next_look: Option<Timestamp>,
    /// The obstacle that each pod has met, by its uid, and since when it was seen there.
    obstacles: BTreeMap<String, (Obstacle, Timestamp)>,
    /// When the status last told of the wait.
    told: Option<Timestamp>,
}

impl Outcome {
    /// Takes in what one look saw; the pod that no more waiting will help, if there is one.
    ///
    /// A container that crashes runs in between: only a pod that is gone, is ready, or has met something else begins anew.
    fn hopeless<'a>(&mut self, waits: &'a Waits, patient: bool, now: Timestamp) -> Option<&'a WaitingPod> {
        let known = std::mem::take(&mut self.obstacles);
        let mut hopeless = None;
        for pod in &waits.pods {
            let before = known.get(&pod.uid).copied();
            let met = pod.obstacle.map(|obstacle| match before {
                Some((same, since)) if same == obstacle => (obstacle, since),
                _ => (obstacle, now),
            });
            let Some((obstacle, since)) = met.or(before) else {
                continue;
            };
            self.obstacles.insert(pod.uid.clone(), (obstacle, since));
            let is_over = met.is_some() && now >= later(since, OBSTACLE_MAX);
            // A cluster that grows brings the nodes that more replicas need.
            if is_over && !(patient && obstacle == Obstacle::Place) {
                hopeless = hopeless.or(Some(pod));
            }
        }
        hopeless
    }
}

impl StepMachine {
    /// Compares the outcome with what was wanted; decides what the end of the attempt means.
    pub(super) fn look_after(
        &mut self,
        checked: &ValidatedExecution,
        attempt: &Attempt,
        ended: &Ended,
        now: Timestamp,
        out: &mut Vec<StepCommand>,
    ) -> Flow {
        let what = match ended {
            Ended::Success { .. } if !self.settings.verification && !self.lacks_inverse() => {
                return self.complete("", None, ended, now);
            }
            Ended::Success { .. } => JobResult::Success,
            Ended::Failure(_) => JobResult::Failure,
            Ended::Lost => JobResult::Lost,
        };
        let Some((outcome, waits)) = self.look(checked, attempt, what, out) else {
            return Flow::Wait;
        };
        self.outcome = Outcome::default();
        if what == JobResult::Success && !self.settings.verification {
            // It was looked at for its undo alone.
            return self.complete("", None, ended, now);
        }
        self.outcome.hopeless(&waits, false, now);
        match (ended, outcome) {
            (_, Postcondition::Holds { after }) => self.complete(&after, doubt(ended), ended, now),
            (Ended::Success { .. }, Postcondition::Unprovable { why }) => self.complete(
                "",
                Some(format!("the outcome could not be read: {why}")),
                ended,
                now,
            ),
            // What has begun is not begun again: another restart, say, would be a second one.
            (_, Postcondition::InProgress { why })
            | (Ended::Success { .. }, Postcondition::NotThere { why }) => {
                self.note_success(said_at(ended), now);
                let words = doubt(ended).unwrap_or_else(|| "the Job succeeded".to_owned());
                self.warn(doubt(ended));
                self.wait_for_the_outcome(&format!("{words}; waits for the outcome: {why}"), now)
            }
            (_, Postcondition::Stuck { why }) | (Ended::Success { .. }, Postcondition::Never { why }) => {
                self.note_success(said_at(ended), now);
                self.warn(doubt(ended));
                self.verification_failed(&why, now)
            }
            (Ended::Failure(_), _) if planted(Defect::CompleteAFailure) => {
                self.complete("", None, ended, now)
            }
            (Ended::Failure(failure), _) => {
                let outcome = match failure.retry {
                    Retry::Uncounted => AttemptOutcome::Evicted,
                    Retry::Never | Retry::Backoff | Retry::Eviction => AttemptOutcome::Failed,
                };
                self.attempt_failed(&failure.clone(), outcome, now)
            }
            (Ended::Lost, _) => {
                let provable = checked.kind.definition().provable_when_lost;
                let failure = Failure {
                    error_type: ErrorType::JobLost,
                    message: format!(
                        "Job {} vanished, and nothing shows that it took effect: somebody deleted it, or it was never made",
                        attempt.job_name
                    ),
                    retry: if provable { Retry::Backoff } else { Retry::Never },
                };
                self.attempt_failed(&failure, AttemptOutcome::Lost, now)
            }
        }
    }

    /// rollback_ready: looks again and again, until the outcome is there or has had its time.
    pub(super) fn verifying(&mut self, now: Timestamp, out: &mut Vec<StepCommand>) -> Flow {
        let checked = match self.check() {
            Ok(checked) => checked,
            Err(problems) => return self.fail(ErrorType::ValidationError, &Problem::joined(&problems), now),
        };
        match &self.waits.lock {
            Hold::None => return self.acquire_lock(out),
            Hold::Asked | Hold::Busy(_) => return Flow::Wait,
            Hold::Held => {}
        }
        let Some(attempt) = self.current_attempt().cloned() else {
            return self.fail(
                ErrorType::UnknownError,
                "status.attempts is empty in rollback_ready: it was edited",
                now,
            );
        };
        let success = Ended::Success { said: None };
        if !self.settings.verification {
            return self.complete("", None, &success, now);
        }
        let stopped_by = self.stopped_by();
        if let Some(at) = self
            .outcome
            .next_look
            .filter(|at| now < *at && stopped_by.is_none())
        {
            return self.wait_until(at, "the outcome");
        }
        let Some((outcome, waits)) = self.look(&checked, &attempt, JobResult::Success, out) else {
            return Flow::Wait;
        };
        match outcome {
            Postcondition::Holds { after } => self.complete(&after, None, &success, now),
            Postcondition::Unprovable { why } => self.complete(
                "",
                Some(format!("the outcome could not be read: {why}")),
                &success,
                now,
            ),
            Postcondition::Stuck { why } | Postcondition::Never { why } => {
                self.verification_failed(&why, now)
            }
            // The Job is over, and nobody waits for more.
            Postcondition::InProgress { why } | Postcondition::NotThere { why } if stopped_by.is_some() => {
                let by = stopped_by.unwrap_or_default();
                self.fail(
                    ErrorType::Cancelled,
                    &format!("{by}; the Job is over, and {why}"),
                    now,
                )
            }
            Postcondition::InProgress { why } | Postcondition::NotThere { why } => {
                let limit = self.outcome_limit(&checked, now);
                let patient = checked.kind.definition().rollout == Rollout::Resizes;
                if let Some(pod) = self.outcome.hopeless(&waits, patient, now) {
                    let why = format!(
                        "{why}. Pod {} does not start, and waiting will not change that: {}",
                        pod.name, pod.why
                    );
                    return self.verification_failed(&why, now);
                }
                if now >= limit {
                    let why = self.time_is_over(&checked, &why, &waits);
                    return self.verification_failed(&why, now);
                }
                self.outcome.looks += 1;
                let next = later(now, delay(self.outcome.looks)).min(limit);
                self.outcome.next_look = Some(next);
                self.tell_of_the_wait(&why, &waits, now);
                if self.status.is_due {
                    return Flow::Again;
                }
                self.wait_until(next, "the outcome")
            }
        }
    }

    /// Nothing is left that another attempt could act on: what the earlier ones did is looked at.
    pub(super) fn verify_earlier(&mut self, now: Timestamp) -> Flow {
        if self
            .current_attempt()
            .is_some_and(|attempt| attempt.outcome.is_none())
        {
            let needless = "not needed any more when its Job could have been made";
            self.end_attempt(AttemptOutcome::Lost, ErrorType::JobLost, needless, now);
        }
        let failed = |attempt: &&Attempt| attempt.outcome == Some(AttemptOutcome::Failed);
        let said = self
            .status
            .draft
            .attempts
            .iter()
            .rfind(failed)
            .and_then(|attempt| attempt.message.clone());
        let words = format!(
            "kubectl failed, but its effect is there: {}",
            said.unwrap_or_default()
        );
        self.warn(Some(words.clone()));
        self.enter(ExecutionPhase::RollbackReady, now);
        self.wait_for_the_outcome(&format!("{words}; waits for the outcome"), now)
    }

    fn wait_for_the_outcome(&mut self, message: &str, now: Timestamp) -> Flow {
        self.status.draft.message = Some(cut(message, MESSAGE_MAX));
        self.outcome.looks = 1;
        self.outcome.next_look = Some(later(now, delay(1)));
        self.status.is_due = true;
        Flow::Again
    }

    /// Until when an outcome is waited for: the timeout bounds the step, and the outcome gets its least time after the Job.
    fn outcome_limit(&self, checked: &ValidatedExecution, now: Timestamp) -> Timestamp {
        let results = self.status.draft.execution_results.as_ref();
        let begun = results.and_then(|results| results.start_time.as_ref());
        let bound = later(begun.map_or(now, |time| time.0), checked.timeout);
        let ended = results.and_then(|results| results.end_time.as_ref());
        bound.max(later(ended.map_or(bound, |time| time.0), OUTCOME_MIN))
    }

    fn time_is_over(&self, checked: &ValidatedExecution, why: &str, waits: &Waits) -> String {
        let timeout = &self.execution.spec.timeout;
        if checked.kind.definition().rollout == Rollout::None {
            return format!("{why}, and the timeout of {timeout} is over");
        }
        let pod = waits.why().map_or_else(String::new, |why| format!(" ({why})"));
        if waits.are_healthy() {
            return format!(
                "{why}{pod}. The timeout of {timeout} is over, and nothing is known to be wrong: the {} goes on by \
                 itself, and a step that waits for it needs a longer timeout",
                checked.target.kind
            );
        }
        format!("{why}{pod}, and the timeout of {timeout} is over")
    }

    /// Says in the status what is still missing and why: at first after 10 s, and then whenever the wait has grown by half.
    fn tell_of_the_wait(&mut self, why: &str, waits: &Waits, now: Timestamp) {
        let results = self.status.draft.execution_results.as_ref();
        let ended = results.and_then(|results| results.end_time.as_ref());
        let waited = ended.map_or(Duration::ZERO, |time| {
            Duration::try_from(now.duration_since(time.0)).unwrap_or_default()
        });
        let pause = TELL_AFTER.max(waited / 3);
        if waited < TELL_AFTER || self.outcome.told.is_some_and(|told| now < later(told, pause)) {
            return;
        }
        self.outcome.told = Some(now);
        let pod = waits.why().map_or_else(String::new, |why| format!(" ({why})"));
        let message = cut(&format!("waits for the outcome: {why}{pod}"), MESSAGE_MAX);
        if self.status.draft.message.as_deref() != Some(&message) {
            self.status.draft.message = Some(message);
            self.status.is_due = true;
        }
    }

    /// One look: what it means, and what the pods of a rollout wait for. `None` while it reads.
    fn look(
        &mut self,
        checked: &ValidatedExecution,
        attempt: &Attempt,
        what: JobResult,
        out: &mut Vec<StepCommand>,
    ) -> Option<(Postcondition, Waits)> {
        let mut attempt = attempt.clone();
        if let Some(first) = self.status.draft.attempts().real().next() {
            // Later attempts act on what the first one left; all of it shall be gone.
            attempt.pods.clone_from(&first.pods);
        }
        let look = self.outcome.look.get_or_insert_with(Look::default);
        if let Some(why) = look.unreadable.clone() {
            self.outcome.look = None;
            return Some((Postcondition::Unprovable { why }, Waits::default()));
        }
        let reads = verify::reads(checked, &attempt, &look.facts);
        if !reads.is_empty() {
            look.asked.clone_from(&reads);
            self.call(Purpose::After, ApiCommand::Read(reads), out);
            return None;
        }
        let facts = std::mem::take(&mut look.facts);
        self.outcome.look = None;
        let outcome = verify::postcondition(&self.execution, checked, &attempt, &facts, what);
        self.note_inverse(checked, &facts, &outcome);
        Some((outcome, verify::waits(checked, &facts)))
    }

    /// What would take the change back, as it is when it is first seen: what stands there later may be somebody else's. It goes
    /// with the next write.
    fn note_inverse(&mut self, checked: &ValidatedExecution, facts: &ReadResults, outcome: &Postcondition) {
        let is_ours = match outcome {
            Postcondition::Holds { .. } | Postcondition::InProgress { .. } | Postcondition::Stuck { .. } => {
                true
            }
            Postcondition::NotThere { .. } => checked.kind.definition().fails_half_done,
            Postcondition::Never { .. } | Postcondition::Unprovable { .. } => false,
        };
        let rollback = self.status.draft.rollback_information.as_mut();
        // Half of a change may have done nothing so far.
        let is_known = |rollback: &RollbackInformation| {
            rollback.undo.as_ref().is_some_and(|undo| !changes_nothing(undo))
        };
        let forgets = planted(Defect::TakeBackWhatOthersDid);
        let Some(rollback) =
            rollback.filter(|rollback| rollback.available && (!is_known(rollback) || forgets))
        else {
            return;
        };
        let recorded = rollback.rollback_parameters.as_ref();
        let found = verify::target_in(checked, facts)
            .zip(recorded)
            .and_then(|(object, recorded)| inverse(checked, recorded, object));
        if let Some(undo) = found.filter(|undo| is_ours || changes_nothing(undo) || forgets) {
            rollback.undo = Some(undo);
        }
    }

    /// It can be taken back, and nobody has seen yet what was changed.
    fn lacks_inverse(&self) -> bool {
        let rollback = self.status.draft.rollback_information.as_ref();
        rollback.is_some_and(|rollback| rollback.available && rollback.undo.is_none())
    }

    pub(super) fn after_read(&mut self, facts: ReadResults) {
        self.outcome
            .look
            .get_or_insert_with(Look::default)
            .facts
            .extend(facts);
    }

    /// A read of the outcome failed; true when the look goes on without it.
    ///
    /// What only tells more of a rollout is done without. An API server that gives no answer is asked again while there is
    /// time.
    pub(super) fn after_failed(&mut self, failure: &ApiFailure, now: Timestamp) -> bool {
        let Ok(checked) = self.check() else {
            return false;
        };
        let is_over = now >= self.outcome_limit(&checked, now);
        let look = self.outcome.look.get_or_insert_with(Look::default);
        if look.asked.iter().all(|read| verify::is_detail(&checked, read)) {
            let nothing = look.asked.drain(..).map(|read| (read, Vec::new()));
            look.facts.extend(nothing);
            return true;
        }
        if failure.class.is_transient() && !is_over {
            return false;
        }
        look.unreadable = Some(failure.message.clone());
        true
    }

    /// The Job ended well; whether that is the wanted outcome is seen in rollback_ready.
    fn note_success(&mut self, said: Option<&str>, now: Timestamp) {
        if let Some(last) = self.status.draft.attempts.last_mut()
            && last.outcome.is_none()
        {
            last.outcome = Some(AttemptOutcome::Succeeded);
            last.end_time = Some(MicroTime(now));
        }
        if let Some(results) = &mut self.status.draft.execution_results {
            results.end_time = Some(MicroTime(now));
            // Silence, too, is this attempt's: what an earlier one said is no longer the last word.
            results.pod_logs = said.map(|said| cut(said, MESSAGE_MAX));
        }
        self.condition(
            ConditionType::JobComplete,
            true,
            ConditionReason::Succeeded,
            "",
            now,
        );
        self.enter(ExecutionPhase::RollbackReady, now);
    }

    fn complete(&mut self, after: &str, warning: Option<String>, ended: &Ended, now: Timestamp) -> Flow {
        if self.status.draft.phase != Some(ExecutionPhase::RollbackReady) {
            self.note_success(said_at(ended), now);
        }
        let message = match &warning {
            Some(warning) => warning.clone(),
            None if after.is_empty() => "done".to_owned(),
            None => after.to_owned(),
        };
        self.enter(ExecutionPhase::Completed, now);
        self.status.draft.completion_time = Some(MicroTime(now));
        self.status.draft.message = Some(cut(&message, MESSAGE_MAX));
        if let Some(results) = &mut self.status.draft.execution_results {
            results.success = true;
            if let (Some(start), Some(end)) = (&results.start_time, &results.end_time) {
                results.duration = Some(format_go(Duration::from_secs_f64(seconds_between(
                    start.0, end.0,
                ))));
            }
            if let Some(resource) = results.resources_affected.first_mut() {
                resource.after = Some(after.to_owned()).filter(|words| !words.is_empty());
            }
        }
        self.warn(warning);
        let verified = self.settings.verification;
        let reason = if verified {
            ConditionReason::AsWanted
        } else {
            ConditionReason::NotVerified
        };
        self.condition(ConditionType::OutcomeVerified, verified, reason, after, now);
        self.condition(
            ConditionType::Succeeded,
            true,
            ConditionReason::Completed,
            &message,
            now,
        );
        self.status.is_due = true;
        Flow::Again
    }

    /// The target is as it shall be, and no Job is made.
    pub(super) fn complete_without_job(&mut self, now: Timestamp) -> Flow {
        let message = "nothing to undo: it is as it was before";
        if self.status.draft.phase == Some(ExecutionPhase::WaitingApproval) {
            self.enter(ExecutionPhase::Validated, now);
        }
        self.enter(ExecutionPhase::Completed, now);
        self.status.draft.completion_time = Some(MicroTime(now));
        self.status.draft.message = Some(message.to_owned());
        for kind in [ConditionType::OutcomeVerified, ConditionType::Succeeded] {
            self.condition(kind, true, ConditionReason::AsWanted, message, now);
        }
        self.status.is_due = true;
        Flow::Again
    }

    fn verification_failed(&mut self, why: &str, now: Timestamp) -> Flow {
        self.condition(
            ConditionType::OutcomeVerified,
            false,
            ConditionReason::NotAsWanted,
            why,
            now,
        );
        let message = format!("the Job is over, but the outcome is not there: {why}");
        self.fail(ErrorType::VerificationFailed, &message, now)
    }

    fn warn(&mut self, warning: Option<String>) {
        let Some(warning) = warning else { return };
        let results = self
            .status
            .draft
            .validation_results
            .get_or_insert_with(Default::default);
        results
            .dry_run_results
            .get_or_insert_with(Default::default)
            .warnings
            .push(cut(&warning, 1000));
    }
}

/// kubectl's last words.
fn said_at(ended: &Ended) -> Option<&str> {
    match ended {
        Ended::Success { said } => said.as_deref(),
        Ended::Failure(failure) => Some(&failure.message),
        Ended::Lost => None,
    }
}

/// What a person should know of an effect that is there although its attempt did not end well.
fn doubt(ended: &Ended) -> Option<String> {
    match ended {
        Ended::Success { .. } => None,
        Ended::Failure(failure) => Some(format!(
            "kubectl failed, but its effect is there: {}",
            failure.message
        )),
        Ended::Lost => Some("the Job vanished, but its effect is there".to_owned()),
    }
}

/// Between two looks: 0.5, 1, 2, 4 and then every 5 s (docs/executions.md, The outcome).
fn delay(looks: u32) -> Duration {
    match looks {
        0 | 1 => Duration::from_millis(500),
        2 => Duration::from_secs(1),
        3 => Duration::from_secs(2),
        4 => Duration::from_secs(4),
        _ => Duration::from_secs(5),
    }
}
