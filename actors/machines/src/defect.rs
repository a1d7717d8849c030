//! Defects that are planted to see that the search finds them. Without the feature `planted-defects`, which only the
//! simulation's tests have, [`planted`] is false and nothing of them is left in the program.

macro_rules! defects {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Something that the controller does wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Defect {
            $($(#[doc = $doc])* $name,)*
        }

        impl Defect {
            /// All of them.
            pub const ALL: &[Defect] = &[$(Defect::$name,)*];
        }
    };
}

defects! {
    /// A step starts whatever it depends on.
    IgnoreDependencies,
    /// A failed critical step stops nothing.
    IgnoreCriticalFailure,
    /// maxRetries counts for nothing.
    RetryForever,
    /// The phase validated is not noted.
    SkipValidated,
    /// A failure has no reason.
    FailWithoutReason,
    /// A deleted execution keeps its finalizer.
    KeepTheFinalizer,
    /// A deleted execution leaves its Jobs.
    LeaveTheJob,
    /// A payload Secret stays when its attempt has ended.
    LeaveThePayload,
    /// A target that another execution holds is taken as well.
    IgnoreTheLock,
    /// What is recorded of a Job is not what is made.
    RecordAnotherHash,
    /// The next attempt does not wait for the end of the last one's pod.
    NotWaitForThePod,
    /// A failed Job has succeeded.
    CompleteAFailure,
    /// The time of a condition goes back.
    TurnBackTime,
    /// The values of a Secret stand in the status.
    ShowSecrets,
    /// A skipped or failed step has no reason.
    SkipWithoutReason,
    /// A workflow ends while steps run.
    EndTooEarly,
    /// A Job runs as another account.
    UseAnotherAccount,
    /// A status is written whatever has changed since it was read.
    WriteBlindly,
    /// A step whose creation had no answer is created again under another name.
    CreateUnderAnotherName,
    /// A target is held for ever.
    NeverRelease,
    /// A Job of the right name is the attempt's, whoever made it.
    AdoptStrangersJob,
    /// A Job is ours when its labels say so.
    TrustLabels,
    /// An execution of the right name is the step's, whoever made it.
    AdoptStrangersExecution,
    /// That the lease is lost changes nothing.
    IgnoreTheLease,
    /// No finalizer holds an execution.
    ForgetTheFinalizer,
    /// That an execution is being deleted changes nothing.
    RunAfterDeletion,
    /// A read that is refused for good is made again, at once.
    ReadARefusalAgain,
    /// A Job that was seen to end waits for a place before its end counts.
    QueueWhatHasEnded,
    /// The budget of validation runs while its calls wait for their turn.
    CountOurOwnQueue,
    /// A vanished execution is asked for once, whatever comes of it.
    AskOnceForTheAbsent,
    /// A step's actor that ends without a word is no reason to ask what became of its execution.
    NotAskAfterTheSilent,
    /// A Job that nobody can reach keeps its place.
    KeepThePlaceOfADeadNode,
    /// A create that was sent and never answered is no reason to wait.
    IgnoreCreatesUnderWay,
    /// A wait whose note was lost to a conflict is not told of again.
    ForgetToTellOfAWait,
    /// A step that waits for its target keeps the slot for its Job meanwhile.
    KeepASlotForNothing,
    /// One Job more runs than may.
    RunOneJobMore,
    /// A workflow that is not started yet says nothing.
    StartInSilence,
    /// A workflow that is paused starts steps.
    StartWhilePaused,
    /// A workflow that is cancelled starts steps.
    StartAfterShutdown,
    /// What runs of a workflow that is cancelled runs on.
    LetRunOn,
    /// A step that cleans up does not run when a critical one has failed.
    SkipTheCleanUp,
    /// A step that cleans up runs where nothing has begun.
    CleanUpAfterNothing,
    /// Steps are undone in the order in which they completed.
    UndoForwards,
    /// Steps are undone all at once.
    UndoAtOnce,
    /// A step that cleans up is undone, too.
    UndoTheCleanUp,
    /// An undo does not test what is there.
    UndoBlindly,
    /// The first change is not undone.
    ForgetAnUndo,
    /// What an undo takes back is what stood there at the last look, whoever set it.
    TakeBackWhatOthersDid,
    /// The state before is that of before a wait.
    KeepTheStateOfBeforeAWait,
    /// What waits for approval runs.
    RunUnapproved,
    /// Who creates a workflow may approve it.
    CountTheCreator,
    /// An approval counts whatever plan it names.
    CountAnotherPlan,
    /// Steps are made, and made to run, before the approval is in the cluster.
    RunBeforeTheRecord,
    /// A rejection is no reason to stop.
    PassOverARejection,
    /// A workflow that rests isn't woken by an approval.
    SleepThroughApprovals,
}

#[cfg(feature = "planted-defects")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
}

/// Plants a defect in everything that runs on this thread, or takes it out again.
#[cfg(feature = "planted-defects")]
pub fn plant(defect: Option<Defect>) {
    PLANTED.set(defect);
}

/// Whether this one is planted.
#[cfg(feature = "planted-defects")]
pub fn planted(defect: Defect) -> bool {
    PLANTED.get() == Some(defect)
}

/// Whether this one is planted: never.
#[cfg(not(feature = "planted-defects"))]
#[inline]
pub const fn planted(_: Defect) -> bool {
    false
}
