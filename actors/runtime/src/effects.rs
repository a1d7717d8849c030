//! Commands carried out: bounded tasks, each with its deadline, through the port.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::future::{Either, select};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use kubernaut_crds::WorkflowExecution;
use kubernaut_machines::api_command::{
    ApiCommand, ApiFailure, ApiOutcome, FailureClass, Lane, RightsAnswer, RightsQuestion, Terms,
};
use kubernaut_machines::plan::Undone;
use kubernaut_machines::step::is_stray;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::budget::Budget;
use crate::claims::Sent;
use crate::complaints::Complaints;
use crate::lanes::{Lanes, Turn};
use crate::ports::{
    Account, Answer, Clock, HomeApi, JobRef, Key, Observer, PolicyJudge, Subject, TargetApi, WriteGate,
    uid_of,
};
use crate::rights::{Question, RightsCache};

/// Deadline of a call. A healthy API server answers within 1 s (its own objective); after 10 s a new try is worth
/// more than more patience.
const DEADLINE: Duration = Duration::from_secs(10);

/// Deadline of making a Job: admission webhooks may take 10 s each, up to 30 s together. Below the 60 s after which the
/// API server itself gives a request up, so that a Job that is not there a minute later never comes.
const JOB_DEADLINE: Duration = Duration::from_secs(30);

/// Of what the supervisor clears away by itself.
const CLEAN_UP: Terms = Terms {
    lane: Lane::CleanUp,
    not_after: None,
};

/// Questions of one command about rights that are asked side by side: a workflow may have dozens, and each waits with
/// its request in memory.
const QUESTIONS_AT_ONCE: usize = 4;

/// Carries out what the machines ask for: each command is a task of its actor, each call waits for its turn and has a
/// deadline, each write passes the gate.
pub(crate) struct Effects {
    home: Arc<dyn HomeApi>,
    target: Arc<dyn TargetApi>,
    policy: Option<Arc<dyn PolicyJudge>>,
    gate: Arc<dyn WriteGate>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    executor_namespace: String,
    complaints: Complaints,
    rights: RightsCache,
    explanations: Budget,
    lanes: Arc<Lanes>,
    pending: AtomicUsize,
    idle: Notify,
    closed: AtomicBool,
    cut_off: AtomicBool,
}

/// A command on its way.
pub(crate) struct Call {
    pub(crate) command: ApiCommand,
    pub(crate) terms: Terms,
    /// Where it is noted when something of it is sent.
    pub(crate) sent: Sent,
}

impl Effects {
    #[expect(clippy::too_many_arguments, reason = "called once, with one of each port")]
    pub(crate) fn new(
        home: Arc<dyn HomeApi>,
        target: Arc<dyn TargetApi>,
        policy: Option<Arc<dyn PolicyJudge>>,
        gate: Arc<dyn WriteGate>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        executor_namespace: String,
        concurrency: usize,
    ) -> Self {
        Self {
            home,
            target,
            policy,
            gate,
            clock,
            observer,
            executor_namespace,
            complaints: Complaints::default(),
            rights: RightsCache::default(),
            explanations: Budget::default(),
            lanes: Lanes::new(concurrency),
            pending: AtomicUsize::new(0),
            idle: Notify::new(),
            closed: AtomicBool::new(false),
            cut_off: AtomicBool::new(false),
        }
    }

    /// Carries `command` out in a task of `tasks` for `subject` and hands the result to `done`, exactly once, unless `tasks`
    /// is dropped first (the actor has ended) or the controller is being drained.
    pub(crate) fn start(
        self: &Arc<Self>,
        tasks: &mut JoinSet<()>,
        subject: &Arc<Subject>,
        call: Call,
        done: impl FnOnce(Result<ApiOutcome, ApiFailure>) + Send + 'static,
    ) {
        let effects = Arc::clone(self);
        let subject = Arc::clone(subject);
        self.spawn(tasks, async move {
            let mut reply = Reply(Some(done));
            let name = call.command.name();
            let result = effects.execute(call).await;
            if let Err(failure) = &result {
                effects.log(&subject, name, failure);
            }
            reply.send(result);
        });
    }

    /// Runs `work` as an effect: it is waited for when the controller is drained.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        tasks: &mut JoinSet<()>,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        while tasks.try_join_next().is_some() {}
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let pending = Pending::new(Arc::clone(self));
        tasks.spawn(async move {
            work.await;
            drop(pending);
        });
    }

    /// From now on nothing new is started. Returns when all that is under way has ended, at `deadline` at the latest.
    pub(crate) async fn drain(&self, deadline: Timestamp) {
        self.closed.store(true, Ordering::Release);
        let idle = async {
            loop {
                let notified = self.idle.notified();
                if self.pending.load(Ordering::Acquire) == 0 {
                    return;
                }
                notified.await;
            }
        };
        if let Either::Right(_) = select(std::pin::pin!(idle), self.clock.sleep_until(deadline)).await {
            self.cut_off.store(true, Ordering::Release);
        }
    }

    /// Whether something was still under way when the drain was over: a write of ours may yet arrive.
    pub(crate) fn was_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Acquire)
    }

    /// Deletes a workflow that has been terminal long enough.
    pub(crate) async fn delete_workflow(&self, key: &Key, uid: &str) -> Result<(), ApiFailure> {
        self.write(CLEAN_UP, self.home.delete_workflow(key, uid)).await
    }

    /// Deletes an execution that has been terminal long enough.
    pub(crate) async fn delete_execution(&self, key: &Key, uid: &str) -> Result<(), ApiFailure> {
        self.write(CLEAN_UP, self.home.delete_execution(key, uid)).await
    }

    /// Deletes the Job if it is a stray, decided on a live read of its execution. True when it was one.
    pub(crate) async fn sweep(&self, job: &JobRef) -> Result<bool, ApiFailure> {
        let key = &job.execution;
        let found = self
            .call(CLEAN_UP, self.home.execution(&key.namespace, &key.name))
            .await?;
        let found = found.filter(|execution| uid_of(&execution.metadata) == job.execution_uid);
        let mut stray = is_stray(found.as_deref(), &job.view);
        if stray && found.is_some() {
            // A Job of an execution that is there is only a stray while it lives, and the store may lag behind.
            let view = self
                .call(CLEAN_UP, self.target.job(&job.view.name, &job.execution_uid))
                .await?;
            stray = view.is_some_and(|view| view.uid == job.view.uid && is_stray(found.as_deref(), &view));
        }
        if stray {
            self.write(CLEAN_UP, self.target.delete_job(&job.view.name, &job.view.uid))
                .await?;
            if found.is_none() {
                // Its payload has its name; nobody else knows of it any more.
                self.write(
                    CLEAN_UP,
                    self.target.delete_secret(&job.view.name, &job.execution_uid),
                )
                .await?;
            }
            self.observer.stray(job);
        }
        Ok(stray)
    }

    async fn execute(&self, call: Call) -> Result<ApiOutcome, ApiFailure> {
        let (home, target, terms) = (&self.home, &self.target, call.terms);
        Ok(match call.command {
            ApiCommand::CheckRights(question) => {
                ApiOutcome::Rights(self.check_rights(question, terms).await?)
            }
            ApiCommand::Read(reads) => ApiOutcome::ReadResults(self.call(terms, target.read(reads)).await?),
            ApiCommand::WriteExecutionStatus { execution, patch } => ApiOutcome::Execution(
                self.write(terms, home.patch_execution_status(&execution, &patch))
                    .await?,
            ),
            ApiCommand::WriteWorkflowStatus { workflow, patch } => ApiOutcome::Workflow(
                self.write(terms, home.patch_workflow_status(&workflow, &patch))
                    .await?,
            ),
            ApiCommand::PatchExecution { execution, change } => {
                let patch = change.merge_patch(&execution);
                ApiOutcome::Execution(
                    self.write(terms, home.patch_execution(&execution, &patch))
                        .await?,
                )
            }
            ApiCommand::GetExecution { namespace, name } => {
                ApiOutcome::FoundExecution(self.call(terms, home.execution(&namespace, &name)).await?)
            }
            ApiCommand::GetWorkflow { namespace, name } => {
                ApiOutcome::FoundWorkflow(self.call(terms, home.workflow(&namespace, &name)).await?)
            }
            ApiCommand::GetUndone { namespace, name } => {
                ApiOutcome::Undone(Arc::new(self.undone(&namespace, &name, terms).await?))
            }
            ApiCommand::CreateExecution(execution) => {
                let (execution, fresh) = self.write(terms, home.create_execution(&execution)).await?;
                ApiOutcome::Created { execution, fresh }
            }
            ApiCommand::CreateJob { job, secret } => {
                let create = target.create_job(&job, secret.as_deref());
                let create = noting(&*self.clock, &call.sent, create);
                let job = self.limited(JOB_DEADLINE, terms, create, true).await?;
                ApiOutcome::JobCreated(Box::new(job))
            }
            ApiCommand::GetJob { name, execution_uid } => {
                let job = self.call(terms, target.job(&name, &execution_uid)).await?;
                ApiOutcome::FoundJob(job.map(Box::new))
            }
            ApiCommand::DeleteJob { name, uid } => {
                self.write(terms, target.delete_job(&name, &uid)).await?;
                ApiOutcome::Deleted
            }
            ApiCommand::DeleteSecret { name, execution_uid } => {
                self.write(terms, target.delete_secret(&name, &execution_uid))
                    .await?;
                ApiOutcome::Deleted
            }
            // It waits for no turn: nothing of it reaches the API server.
            ApiCommand::Judge(input) => match &self.policy {
                Some(policy) => ApiOutcome::Judged(policy.judge(input).await?),
                None => return Err(no_policy()),
            },
            // Without an answer nothing is known of why it does not run, and nothing else waits for that.
            ApiCommand::ExplainJob { .. } if !self.explanations.takes(self.clock.now()) => {
                ApiOutcome::Explained(Vec::new())
            }
            ApiCommand::ExplainJob { name } => {
                ApiOutcome::Explained(self.call(terms, target.explain_job(&name)).await?)
            }
        })
    }

    /// A workflow, and of its executions those that its status names and that are there.
    async fn undone(&self, namespace: &str, name: &str, terms: Terms) -> Result<Undone, ApiFailure> {
        let workflow = self.call(terms, self.home.workflow(namespace, name)).await?;
        let named = workflow.as_deref().map(executions_of).unwrap_or_default();
        let found: Vec<_> = stream::iter(named)
            .map(async |name| self.call(terms, self.home.execution(namespace, &name)).await)
            .buffered(QUESTIONS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(Undone {
            executions: found.into_iter().flatten().collect(),
            workflow,
        })
    }

    async fn check_rights(&self, question: RightsQuestion, terms: Terms) -> Result<RightsAnswer, ApiFailure> {
        let account = Account {
            namespace: question.namespace,
            name: question.service_account,
        };
        let existence = question.executor_accounts.into_iter().map(|name| {
            Question::Exists(Account {
                namespace: self.executor_namespace.clone(),
                name,
            })
        });
        let existence = std::iter::once(Question::Exists(account.clone())).chain(existence);
        let rights = question
            .requests
            .into_iter()
            .map(|request| Question::May(account.clone(), request));
        // The answers in the order of the questions, so that a refusal names the same things in the same order each time.
        let mut answers = stream::iter(existence.chain(rights).enumerate())
            .map(async |(index, question)| Ok((index, self.is_yes(&question, terms).await?, question)))
            .buffered(QUESTIONS_AT_ONCE);
        let mut answer = RightsAnswer::default();
        while let Some((index, yes, question)) = answers.try_next().await? {
            match question {
                _ if yes => {}
                Question::Exists(_) if index == 0 => answer.account_missing = true,
                Question::Exists(account) => answer.executor_accounts_missing.push(account.name),
                Question::May(_, request) => answer.denied.push(request),
            }
        }
        Ok(answer)
    }

    async fn is_yes(&self, question: &Question, terms: Terms) -> Result<bool, ApiFailure> {
        let known = |question| self.rights.answer(question, self.clock.now());
        if known(question) == Some(true) {
            return Ok(true);
        }
        // Who may do it with all objects of the namespace is asked once, not for each object.
        let for_all = question.for_all_names();
        if let Some(for_all) = &for_all {
            let yes = match known(for_all) {
                Some(yes) => yes,
                None => self.ask(for_all, terms, true).await?,
            };
            if yes {
                return Ok(true);
            }
        }
        self.ask(question, terms, false).await
    }

    /// Asks, and keeps a yes; a no only where it says so.
    async fn ask(&self, question: &Question, terms: Terms, keeps_no: bool) -> Result<bool, ApiFailure> {
        let _turn = self.turn(terms, false).await?;
        // Others may have asked the same while this one waited.
        if let Some(yes) = self.rights.answer(question, self.clock.now()) {
            return Ok(yes);
        }
        let answer = match question {
            Question::Exists(account) => self.target.account_exists(account),
            Question::May(account, request) => self.target.may(account, request),
        };
        let yes = self.within(DEADLINE, answer).await?;
        if yes || keeps_no {
            self.rights.note(question.clone(), yes, self.clock.now());
        }
        Ok(yes)
    }

    async fn write<T>(&self, terms: Terms, answer: Answer<'_, T>) -> Result<T, ApiFailure> {
        self.limited(DEADLINE, terms, answer, true).await
    }

    async fn call<T>(&self, terms: Terms, answer: Answer<'_, T>) -> Result<T, ApiFailure> {
        self.limited(DEADLINE, terms, answer, false).await
    }

    async fn limited<T>(
        &self,
        deadline: Duration,
        terms: Terms,
        answer: Answer<'_, T>,
        writes: bool,
    ) -> Result<T, ApiFailure> {
        let _turn = self.turn(terms, writes).await?;
        let answer = if writes {
            while_open(&*self.gate, answer)
        } else {
            answer
        };
        self.within(deadline, answer).await
    }

    /// Waits for its turn; an error where it may not be sent any more.
    async fn turn(&self, terms: Terms, writes: bool) -> Result<Turn, ApiFailure> {
        let turn = self.lanes.turn(terms.lane).await;
        if self.closed.load(Ordering::Acquire) {
            return Err(shutting_down());
        }
        if writes && !self.gate.may_write() {
            return Err(not_sent("this controller is not the leader"));
        }
        if terms
            .not_after
            .is_some_and(|not_after| self.clock.now() > not_after)
        {
            return Err(not_sent("its time was over before its turn came"));
        }
        Ok(turn)
    }

    /// The deadline begins when it is the call's turn: a wait for that is ours, not the server's.
    async fn within<T>(&self, deadline: Duration, answer: Answer<'_, T>) -> Result<T, ApiFailure> {
        let span = SignedDuration::try_from(deadline).unwrap_or(SignedDuration::MAX);
        let sent = self.clock.now();
        let limit = sent.checked_add(span).unwrap_or(Timestamp::MAX);
        let result = match select(answer, self.clock.sleep_until(limit)).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(ApiFailure {
                class: FailureClass::Unknown,
                message: format!("no answer within {} s", deadline.as_secs()),
            }),
        };
        let is_refused = (result.as_ref()).is_err_and(|failure| failure.class.is_transient());
        self.lanes.answered(sent, self.clock.now(), deadline, is_refused);
        result
    }

    /// What the machines do about a failure may be to try again for ever: the log says why.
    fn log(&self, subject: &Subject, call: &'static str, failure: &ApiFailure) {
        match failure.class {
            // Part of the normal course; what follows from them is in a status.
            FailureClass::NotFound | FailureClass::Conflict | FailureClass::Quota => return,
            FailureClass::Forbidden
            | FailureClass::Rejected
            | FailureClass::Throttled
            | FailureClass::Unknown => {}
        }
        if self.closed.load(Ordering::Acquire) || !self.gate.may_write() {
            // This controller ends, and has said so.
            return;
        }
        let now = self.clock.now();
        let Some(untold) = self.complaints.is_due(&subject.uid, failure.class, now) else {
            return;
        };
        tracing::warn!(
            namespace = subject.key.namespace,
            name = subject.key.name,
            workflow = subject.workflow,
            step = subject.step,
            correlation_id = subject.correlation_id,
            call,
            class = failure.class.as_str(),
            untold = (untold > 0).then_some(untold),
            failure = failure.message,
            "a call to the API server failed"
        );
    }
}

/// The names of the executions that a workflow's status names.
fn executions_of(workflow: &WorkflowExecution) -> Vec<String> {
    let steps = workflow.status.iter().flat_map(|status| &status.step_statuses);
    let named = steps.filter_map(|step| step.k8s_execution_ref.as_ref());
    named.map(|reference| reference.name.clone()).collect()
}

/// Where policies shall decide and there are none, nothing is allowed.
fn no_policy() -> ApiFailure {
    ApiFailure {
        class: FailureClass::Rejected,
        message: "there is no policy to be asked: this is a defect of kubernaut".to_owned(),
    }
}

fn shutting_down() -> ApiFailure {
    not_sent("the controller is shutting down")
}

/// A call is several steps (a connection is opened, a Secret is made before its Job), and the process may be frozen
/// between any two of them: the gate is asked before each.
fn while_open<'a, T: 'a>(gate: &'a dyn WriteGate, mut answer: Answer<'a, T>) -> Answer<'a, T> {
    let gated = poll_fn(move |context| {
        if gate.may_write() {
            return answer.poll_unpin(context);
        }
        Poll::Ready(Err(ApiFailure {
            class: FailureClass::Unknown,
            message: "given up: this controller is no longer the leader".to_owned(),
        }))
    });
    gated.boxed()
}

/// Notes, each time that the call gets on, that something of it may be sent.
fn noting<'a, T: 'a>(clock: &'a dyn Clock, sent: &'a Sent, mut answer: Answer<'a, T>) -> Answer<'a, T> {
    let noted = poll_fn(move |context| {
        sent.note(clock.now());
        answer.poll_unpin(context)
    });
    noted.boxed()
}

/// Nothing was done, and it may be tried again.
fn not_sent(message: &str) -> ApiFailure {
    ApiFailure {
        class: FailureClass::Throttled,
        message: message.to_owned(),
    }
}

/// An effect that is under way.
struct Pending(Arc<Effects>);

impl Pending {
    fn new(effects: Arc<Effects>) -> Self {
        let pending = effects.pending.fetch_add(1, Ordering::AcqRel) + 1;
        effects.observer.effects(pending);
        Self(effects)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let left = self.0.pending.fetch_sub(1, Ordering::AcqRel) - 1;
        self.0.observer.effects(left);
        if left == 0 {
            self.0.idle.notify_waiters();
        }
    }
}

/// Answers even when the call panics, so that no machine waits for ever.
struct Reply<F: FnOnce(Result<ApiOutcome, ApiFailure>)>(Option<F>);

impl<F: FnOnce(Result<ApiOutcome, ApiFailure>)> Reply<F> {
    fn send(&mut self, result: Result<ApiOutcome, ApiFailure>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl<F: FnOnce(Result<ApiOutcome, ApiFailure>)> Drop for Reply<F> {
    fn drop(&mut self) {
        self.send(Err(ApiFailure {
            class: FailureClass::Unknown,
            message: "the call was given up".to_owned(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Gate(AtomicBool);

    impl WriteGate for Gate {
        fn may_write(&self) -> bool {
            !self.0.load(Ordering::Acquire)
        }
    }

    #[test]
    fn a_write_that_was_frozen_between_two_requests_sends_no_other() {
        let (gate, sent) = (Gate::default(), AtomicUsize::new(0));
        let answer: Answer<'_, ()> = async {
            sent.fetch_add(1, Ordering::AcqRel);
            tokio::task::yield_now().await;
            sent.fetch_add(1, Ordering::AcqRel);
            Ok(())
        }
        .boxed();
        let mut answer = while_open(&gate, answer);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(answer.poll_unpin(&mut context).is_pending());
        gate.0.store(true, Ordering::Release);
        let Poll::Ready(Err(failure)) = answer.poll_unpin(&mut context) else {
            panic!("it went on");
        };
        assert_eq!(failure.class, FailureClass::Unknown);
        assert_eq!(sent.load(Ordering::Acquire), 1);
    }
}
