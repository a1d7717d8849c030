//! The policies of a directory as they are now, asked off the actors' threads.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use kubernaut_actors::ports::{Answer, Clock, PolicyJudge};
use kubernaut_machines::api_command::{ApiFailure, FailureClass};
use kubernaut_machines::classify::cut;
use kubernaut_machines::policy::{SENTENCE_MAX, Verdict};
use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::PolicyError;
use super::files::PolicyFiles;
use super::set::{PolicySet, TIME_LIMIT, one_line, version};
use crate::http::Readiness;
use crate::telemetry::{PolicyLoad, Telemetry};

/// How often the files are looked at: a kubelet takes up to a minute to show a changed ConfigMap.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Evaluations at the same time: one that hangs in a built-in function leaves the other place.
const PLACES: usize = 2;
/// An answer that has not come by then is not waited for: the engine interrupts an evaluation between two steps alone.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a question waits for a place. All places are taken for so long only where evaluations hang.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);
/// What /readyz tells of policies under.
pub(crate) const TOPIC: &str = "policy";

/// The policies of a directory: what they are now, and how they are asked.
///
/// # Guarantees
/// - Each question is answered by one version, whatever is loaded meanwhile.
/// - A version that can't be used takes the place of none that could.
///
/// # Caveats
/// Time is bounded between steps of a policy; one call of a built-in function is not interrupted, and holds one of two threads until
/// it ends. Memory is bounded by that time alone, by a policy's files (4 MiB) and by the input (the spec's 256 KiB, and what is read
/// of the target).
pub struct Policies {
    directory: PathBuf,
    present: RwLock<Arc<PolicySet>>,
    /// The version that was looked at last, whether it could be used or not.
    seen: Mutex<String>,
    places: Arc<Semaphore>,
    telemetry: Arc<Telemetry>,
    readiness: Readiness,
}

impl Policies {
    /// Loads a directory.
    ///
    /// # Errors
    /// When there is nothing in it that can be asked.
    pub fn load(
        directory: &Path,
        telemetry: Arc<Telemetry>,
        readiness: Readiness,
    ) -> Result<Self, PolicyError> {
        let files = PolicyFiles::read(directory)?;
        let set = PolicySet::compile(&files, directory)?;
        tracing::info!(
            directory = %directory.display(),
            policy = set.name(),
            files = files.rego.len() + files.data.len(),
            "policies decide which executions may run"
        );
        telemetry.policy_loaded(PolicyLoad::Loaded);
        let policies = Self {
            directory: directory.to_owned(),
            present: RwLock::new(Arc::new(set)),
            seen: Mutex::new(version(&files)),
            places: Arc::new(Semaphore::new(PLACES)),
            telemetry,
            readiness,
        };
        policies.say(None);
        Ok(policies)
    }

    /// Takes up changes of the files, for ever.
    pub async fn follow(self: Arc<Self>, clock: Arc<dyn Clock>) {
        loop {
            clock.sleep(LOOK_INTERVAL).await;
            let policies = Arc::clone(&self);
            if is_single_threaded() {
                policies.look();
            } else if spawn_blocking(move || policies.look()).await.is_err() {
                tracing::error!("the policies could not be looked at: this is a defect of kubernaut");
            }
        }
    }

    /// Loads the files where they have changed. A version that can't be used is told of, and the one before goes on to decide.
    pub fn look(&self) {
        let files = match PolicyFiles::read(&self.directory) {
            Ok(files) => files,
            Err(error) => return self.keep("", &error),
        };
        let found = version(&files);
        if *self.seen() == found {
            return;
        }
        match PolicySet::compile(&files, &self.directory) {
            Ok(set) => {
                tracing::info!(policy = set.name(), "the policies have changed");
                *self.seen() = found;
                *self.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
                self.telemetry.policy_loaded(PolicyLoad::Loaded);
                self.say(None);
            }
            Err(error) => self.keep(&found, &error),
        }
    }

    /// The version that decides.
    pub fn present(&self) -> Arc<PolicySet> {
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self, found: &str, error: &PolicyError) {
        let problem = cut(&one_line(&error.to_string()), SENTENCE_MAX);
        let present = self.present();
        // What can't be read is tried again each time, and told of once.
        let seen = std::mem::replace(&mut *self.seen(), found.to_owned());
        if seen == found {
            return;
        }
        tracing::error!(
            policy = present.name(),
            "the changed policies can't be used, those before go on to decide: {problem}"
        );
        self.telemetry.policy_loaded(PolicyLoad::Broken);
        self.say(Some(&problem));
    }

    fn say(&self, problem: Option<&str>) {
        let present = self.present();
        let mut note = format!("{} decides which executions may run", present.name());
        if let Some(problem) = problem {
            note = format!("{note}; the files have changed since, and can't be used: {problem}");
        }
        self.readiness.note(TOPIC, note);
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, input: Value) -> Result<Verdict, ApiFailure> {
        let set = self.present();
        if is_single_threaded() {
            return Ok(set.judge(&input));
        }
        let place = timeout(QUEUE_PATIENCE, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(busy());
        };
        let name = set.name().to_owned();
        let work = spawn_blocking(move || {
            let verdict = set.judge(&input);
            drop(place);
            verdict
        });
        let why = match timeout(PATIENCE, work).await {
            Ok(Ok(verdict)) => return Ok(verdict),
            Ok(Err(_)) => "it could not be asked: this is a defect of kubernaut".to_owned(),
            Err(_) => format!(
                "it took longer than the {} ms that a policy has, in one call of a built-in function",
                TIME_LIMIT.as_millis()
            ),
        };
        Ok(Verdict::denied(name, why))
    }
}

impl PolicyJudge for Policies {
    fn judge(&self, input: Value) -> Answer<'_, Verdict> {
        async move {
            let verdict = self.ask(input).await?;
            self.telemetry.policy_asked(verdict.is_allowed());
            Ok(verdict)
        }
        .boxed()
    }
}

/// A runtime of one thread is a simulation's: there the order of everything follows from its seed.
fn is_single_threaded() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread
}

fn busy() -> ApiFailure {
    ApiFailure {
        class: FailureClass::Throttled,
        message: format!(
            "the policy was not asked: {PLACES} evaluations have not ended for {} s",
            QUEUE_PATIENCE.as_secs()
        ),
    }
}
