//! The controllers of a run: they are started, die, lose their lease, are cut off, and are started again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kubernaut_actors::TokioClock;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::clock::MachineClock;
use super::{MOST_CALLS, PlannedFault};
use crate::config::RunOptions;
use crate::http::Readiness;
use crate::lease::{Candidate, LEASE_NAME, LeaseTimes};
use crate::telemetry::Telemetry;
use crate::{Environment, RunError, run};
use embedded_cluster::{EmbeddedCluster, Session, User};

/// Where the controller lives, and its lease.
const NAMESPACE: &str = "kubernaut-system";
/// Until a container that has ended by itself is started again.
const RESTART: Duration = Duration::from_secs(1);

/// All controllers of a run.
#[derive(Clone)]
pub(super) struct Controllers(Arc<Shared>);

struct Shared {
    cluster: EmbeddedCluster,
    options: RunOptions,
    clock: TokioClock,
    plan: Vec<PlannedFault>,
    /// How long it is down after each death, in the order of the deaths.
    downs: Mutex<VecDeque<Duration>>,
    /// Of the controllers that live.
    sessions: Mutex<Vec<Session>>,
    /// How many have begun.
    lives: AtomicUsize,
}

/// How one life of a controller ended.
enum End {
    Asked,
    Died,
    LostItsLease,
}

impl Controllers {
    pub(super) fn new(
        cluster: EmbeddedCluster,
        options: RunOptions,
        clock: TokioClock,
        plan: &[PlannedFault],
    ) -> Self {
        let mut crashes: Vec<(usize, Duration)> = plan
            .iter()
            .filter_map(|planned| match planned {
                PlannedFault::Crash { write, down, .. } => Some((*write, *down)),
                _ => None,
            })
            .collect();
        crashes.sort_unstable();
        Self(Arc::new(Shared {
            cluster,
            options,
            clock,
            plan: plan.to_vec(),
            downs: Mutex::new(crashes.into_iter().map(|(_, down)| down).collect()),
            sessions: Mutex::default(),
            lives: AtomicUsize::new(0),
        }))
    }

    /// Two when the plan cuts off one that leads, otherwise one.
    pub(super) fn number(&self) -> usize {
        let two = |planned: &PlannedFault| matches!(planned, PlannedFault::Partition { .. });
        if self.0.plan.iter().any(two) { 2 } else { 1 }
    }

    /// Keeps controller `number` running until `stopped`.
    ///
    /// # Errors
    /// In words, when it ended by itself.
    pub(super) async fn keep(self, number: usize, stopped: watch::Receiver<bool>) -> Result<(), String> {
        let mut life = 0;
        loop {
            life += 1;
            let session = Session::named(&format!("controller-{number}-{life}"));
            self.sessions().push(session.clone());
            let end = self.live(&session, stopped.clone()).await?;
            self.sessions().retain(|other| other.name() != session.name());
            let down = match end {
                End::Asked => return Ok(()),
                End::LostItsLease => RESTART,
                End::Died => {
                    let down = self
                        .0
                        .downs
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    down.ok_or_else(|| {
                        format!("the controller sent {MOST_CALLS} calls: it goes round in circles")
                    })?
                }
            };
            let mut stopped = stopped.clone();
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
                () = tokio::time::sleep(down) => {}
            }
        }
    }

    async fn live(&self, session: &Session, mut stopped: watch::Receiver<bool>) -> Result<End, String> {
        let Shared {
            cluster,
            options,
            clock,
            plan,
            ..
        } = &*self.0;
        let account = User::service_account(NAMESPACE, "kubernaut-controller");
        let client = cluster.client_in(account, session.clone());
        let mut world = Environment::new(
            Arc::new(MachineClock::new(*clock, plan)),
            Arc::new(Telemetry::default()),
            Readiness::default(),
        );
        if self.number() > 1 {
            world.candidate = Some(Candidate {
                client: client.clone(),
                namespace: NAMESPACE.to_owned(),
                identity: session.name().to_string(),
                times: LeaseTimes::default(),
                runtime: None,
            });
        }
        let (end, ended) = oneshot::channel::<()>();
        let mut options = options.clone();
        let life = self.0.lives.fetch_add(1, Ordering::Relaxed);
        if plan.contains(&PlannedFault::Upgrade) && life % 2 == 1 {
            options.kubectl_image.push_str("-upgraded");
        }
        let mut controller = tokio::spawn(async move {
            run(&options, client, world, async {
                let _ = ended.await;
            })
            .await
        });
        let asked = tokio::select! {
            biased;
            () = session.when_cut() => false,
            _ = stopped.wait_for(|stopped| *stopped) => true,
            ended = &mut controller => {
                return match ended {
                    Ok(Err(RunError::LeaseLost(_))) if self.number() > 1 => Ok(End::LostItsLease),
                    ended => Err(format!("the controller ended by itself: {ended:?}")),
                };
            }
        };
        let _ = end.send(());
        if !asked {
            return Ok(End::Died);
        }
        match controller.await {
            Ok(Ok(()) | Err(RunError::LeaseLost(_))) => Ok(End::Asked),
            other => Err(format!("the controller did not end in order: {other:?}")),
        }
    }

    /// Cuts the controller that leads off from the network.
    pub(super) fn cut_off(&self, lasts: Duration) {
        let holder = self.0.cluster.shared_objects().into_iter().find_map(|object| {
            (object["kind"] == "Lease" && object["metadata"]["name"] == LEASE_NAME)
                .then(|| object["spec"]["holderIdentity"].as_str().map(ToOwned::to_owned))?
        });
        let sessions = self.sessions();
        let leader = sessions
            .iter()
            .find(|session| Some(&*session.name()) == holder.as_deref());
        if let Some(leader) = leader.or_else(|| sessions.first()) {
            leader.stall(Instant::now() + lasts);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Session>> {
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
