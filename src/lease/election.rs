//! Who leads: decided from what the Lease says and from the local monotonic clock.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubernaut_crds::MicroTime;

use super::{LEASE_NAME, LeaseTimes};

/// Time of the monotonic clock.
pub(super) type Moment = Duration;

/// What time it is: the clock that decides, and the one that is written down for people.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) monotonic: Moment,
    pub(super) wall: Timestamp,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The Lease, as a read or a watch showed it just now; `None` when there is none.
    Seen(Option<Lease>),
    /// A write was taken; its request was begun at `sent`.
    Written { sent: Moment, lease: Lease },
    /// A write was refused: the Lease is another one by now.
    Refused,
    /// A read failed, or a write, which may have been made all the same.
    Failed(String),
    /// The watch ended.
    WatchEnded,
    /// The time that was waited for has come.
    Tick,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    /// Read the Lease.
    Read,
    /// Write it: create it when it has no resourceVersion, else replace that version.
    Write(Box<Lease>),
    /// Wait until then, and follow the Lease meanwhile, from the version that is known.
    Wait { until: Moment, follow: bool },
    /// The lease is lost: nothing more is to be done.
    End,
}

/// Where this candidate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has not found out yet.
    Unknown,
    /// Somebody else leads.
    Waits { holder: String },
    /// It leads.
    Leads,
    /// It led.
    Lost { reason: String },
}

/// How long a lease without a holder holds that its last holder let go: as the controllers of Kubernetes write it. An empty one with
/// another time was emptied by somebody else.
const RELEASED_SECONDS: i32 = 1;

/// The election as one candidate sees it.
///
/// # Guarantees
/// It leads from a write of its own that was taken, and no longer than the renew deadline after the last such write was
/// sent. It takes the lease of another one only when that one let it go, or when the record has not changed here for as long as the
/// record says, and each one before it said.
#[derive(Debug)]
pub(super) struct Election {
    identity: String,
    namespace: String,
    times: LeaseTimes,
    /// The Lease in the version that the next write replaces.
    known: Option<Lease>,
    /// When another one's claim has run out here. A Lease that is deleted frees nobody: its holder may not know yet.
    free_at: Moment,
    /// Something went wrong: nothing is done before it has been read again, then.
    read_at: Option<Moment>,
    last_read: Moment,
    /// When the last write that was taken was sent; the candidate leads.
    renewed: Option<Moment>,
    failure: Option<String>,
    lost: Option<String>,
}

impl Election {
    pub(super) fn new(identity: String, namespace: String, times: LeaseTimes) -> Self {
        Self {
            identity,
            namespace,
            times,
            known: None,
            free_at: Moment::ZERO,
            read_at: Some(Moment::ZERO),
            last_read: Moment::ZERO,
            renewed: None,
            failure: None,
            lost: None,
        }
    }

    pub(super) fn on_event(&mut self, now: Now, event: Event) -> Command {
        let at = now.monotonic;
        match event {
            Event::Seen(lease) => {
                self.last_read = at;
                self.know(at, lease);
            }
            Event::Written { sent, lease } => {
                self.renewed = Some(sent);
                self.failure = None;
                self.know(at, Some(lease));
            }
            Event::Refused => self.read_at = Some(at + self.times.retry_period),
            Event::Failed(why) => {
                self.failure = Some(why);
                self.read_at = Some(at + self.times.retry_period);
            }
            // A server that ends each watch at once is not asked more often for that.
            Event::WatchEnded => self.read_at = Some(at.max(self.last_read + self.times.retry_period)),
            Event::Tick => {}
        }
        match self.renewed {
            _ if self.lost.is_some() => Command::End,
            Some(renewed) => self.lead(now, renewed),
            None => self.wait(now),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        if let Some(reason) = &self.lost {
            return Standing::Lost {
                reason: reason.clone(),
            };
        }
        match self.holder() {
            _ if self.renewed.is_some() => Standing::Leads,
            Some(holder) if holder != self.identity => Standing::Waits {
                holder: holder.to_owned(),
            },
            _ => Standing::Unknown,
        }
    }

    /// The version that a watch begins with.
    pub(super) fn version(&self) -> &str {
        let version = self
            .known
            .as_ref()
            .and_then(|lease| lease.metadata.resource_version.as_deref());
        version.unwrap_or_default()
    }

    /// How long a request may take: two that hang fit between the time of a renewal and the renew deadline.
    pub(super) fn patience(&self, now: Moment) -> Duration {
        let limit = self.times.renew_deadline * 3 / 10;
        match self.renewed {
            Some(renewed) => limit.min((renewed + self.times.renew_deadline).saturating_sub(now)),
            None => limit,
        }
    }

    /// The Lease with nobody in it, when this candidate leads: the next one need not wait for its end.
    pub(super) fn released(&self, now: Now) -> Option<Lease> {
        if self.renewed.is_none() || self.lost.is_some() {
            return None;
        }
        let mut lease = self.known.clone()?;
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(RELEASED_SECONDS);
        spec.renew_time = Some(MicroTime(now.wall));
        Some(lease)
    }

    fn lead(&mut self, now: Now, renewed: Moment) -> Command {
        let at = now.monotonic;
        let end = renewed + self.times.renew_deadline;
        if at >= end {
            let why = self.failure.as_deref().unwrap_or("this process did not run");
            let deadline = self.times.renew_deadline;
            return self.lose(format!("it could not be renewed for {deadline:?}: {why}"));
        }
        match self.holder() {
            Some(holder) if holder == self.identity => {}
            Some(holder) => return self.lose(format!("{holder} has taken it")),
            None => return self.lose("it was deleted, or somebody emptied it".to_owned()),
        }
        // Two fifths: with the defaults a request in 4 s, and 6 s for further tries.
        let due = renewed + self.times.renew_deadline * 2 / 5;
        match self.read_at {
            Some(read_at) if at < read_at => wait(read_at.min(end)),
            Some(_) => Command::Read,
            None if at < due => wait(due),
            None => Command::Write(Box::new(self.claim(now))),
        }
    }

    fn lose(&mut self, reason: String) -> Command {
        self.lost = Some(reason);
        Command::End
    }

    fn wait(&self, now: Now) -> Command {
        let at = now.monotonic;
        match self.read_at {
            Some(read_at) if at < read_at => return wait(read_at),
            Some(_) => return Command::Read,
            None => {}
        }
        if at < self.free_at {
            return Command::Wait {
                until: self.free_at,
                follow: self.known.is_some(),
            };
        }
        Command::Write(Box::new(self.claim(now)))
    }

    fn know(&mut self, at: Moment, lease: Option<Lease>) {
        let same = match (&self.known, &lease) {
            (Some(known), Some(lease)) => {
                known.spec == lease.spec && known.metadata.uid == lease.metadata.uid
            }
            (None, None) => true,
            _ => false,
        };
        self.known = lease;
        self.read_at = None;
        match self.holder() {
            Some(holder) if holder == self.identity => self.free_at = at,
            _ if same || self.known.is_none() => {}
            None if self.is_released() => self.free_at = at,
            // Also of nobody: whoever emptied it, its last holder may not know yet. For the same reason no record shortens
            // what another one said.
            _ => self.free_at = self.free_at.max(at + self.held_for()),
        }
    }

    /// Its last holder has let it go, and writes nothing more.
    fn is_released(&self) -> bool {
        let spec = self.known.as_ref().and_then(|lease| lease.spec.as_ref());
        self.holder().is_none()
            && spec.is_some_and(|spec| spec.lease_duration_seconds == Some(RELEASED_SECONDS))
    }

    fn holder(&self) -> Option<&str> {
        let holder = self.known.as_ref()?.spec.as_ref()?.holder_identity.as_deref();
        holder.filter(|holder| !holder.is_empty())
    }

    /// How long the record holds: its holder says so.
    fn held_for(&self) -> Duration {
        let spec = self.known.as_ref().and_then(|lease| lease.spec.as_ref());
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        match seconds.and_then(|seconds| u64::try_from(seconds).ok()) {
            Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => self.times.duration,
        }
    }

    /// The Lease as it is to be when this candidate holds it.
    fn claim(&self, now: Now) -> Lease {
        let ours = self.holder().is_some_and(|holder| holder == self.identity);
        let mut lease = self.known.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(LEASE_NAME.to_owned()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        lease.metadata.managed_fields = None;
        let before = lease.spec.take().unwrap_or_default();
        let renew_time = MicroTime(now.wall);
        let transitions = before.lease_transitions.unwrap_or_default();
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.times.duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: before.acquire_time.filter(|_| ours).or(Some(renew_time.clone())),
            renew_time: Some(renew_time),
            lease_transitions: Some(if ours || self.known.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..before
        });
        lease
    }
}

fn wait(until: Moment) -> Command {
    Command::Wait { until, follow: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "me";

    fn election() -> Election {
        Election::new(ME.to_owned(), "home".to_owned(), LeaseTimes::default())
    }

    fn now(seconds: f64) -> Now {
        Now {
            monotonic: Moment::from_secs_f64(seconds),
            wall: Timestamp::from_millisecond(1_767_225_600_000).unwrap(),
        }
    }

    /// A Lease in a version, renewed `renewal` times.
    fn held_by(holder: &str, version: u32, renewal: i64) -> Lease {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": LEASE_NAME, "namespace": "home", "uid": "u", "resourceVersion": version.to_string()},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 20, "leaseTransitions": 3,
                     "renewTime": format!("2020-01-01T00:00:{renewal:02}.000000Z")},
        }))
        .unwrap()
    }

    /// As its last holder leaves it.
    fn released(version: u32, renewal: i64) -> Lease {
        let mut lease = held_by("", version, renewal);
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(RELEASED_SECONDS);
        lease
    }

    fn wait_until(seconds: f64) -> Command {
        wait(Moment::from_secs_f64(seconds))
    }

    fn follow_until(seconds: f64) -> Command {
        Command::Wait {
            until: Moment::from_secs_f64(seconds),
            follow: true,
        }
    }

    fn written(command: Command) -> Lease {
        match command {
            Command::Write(lease) => *lease,
            Command::Read | Command::Wait { .. } | Command::End => panic!("{command:?}"),
        }
    }

    /// Takes the free lease with a request that was sent at 1.
    fn leader() -> Election {
        let mut election = election();
        election.on_event(now(1.0), Event::Seen(None));
        let lease = held_by(ME, 1, 0);
        let command = election.on_event(
            now(1.5),
            Event::Written {
                sent: Moment::from_secs(1),
                lease,
            },
        );
        assert_eq!(command, wait_until(5.0));
        election
    }

    fn lost(election: &Election) -> String {
        let standing = election.standing();
        let Standing::Lost { reason } = standing else {
            panic!("{standing:?}");
        };
        reason
    }

    #[test]
    fn it_reads_first_and_makes_the_lease_when_there_is_none() {
        let mut election = election();
        assert_eq!(election.on_event(now(0.0), Event::Tick), Command::Read);
        let lease = written(election.on_event(now(1.0), Event::Seen(None)));
        assert_eq!(lease.metadata.name.as_deref(), Some(LEASE_NAME));
        assert_eq!(lease.metadata.namespace.as_deref(), Some("home"));
        let spec = lease.spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some(ME));
        assert_eq!(
            (spec.lease_duration_seconds, spec.lease_transitions),
            (Some(15), Some(0))
        );
        assert_eq!(spec.acquire_time, spec.renew_time);
        assert_eq!(election.standing(), Standing::Unknown);
    }

    #[test]
    fn a_lease_is_taken_when_its_record_has_not_changed_here_for_as_long_as_it_says_whatever_its_times_say() {
        let mut election = election();
        // renewTime is years ago; first seen at 2, it holds until 22.
        let seen = Event::Seen(Some(held_by("other", 7, 1)));
        assert_eq!(election.on_event(now(2.0), seen), follow_until(22.0));
        assert_eq!(
            election.standing(),
            Standing::Waits {
                holder: "other".to_owned()
            }
        );
        // A renewal begins it anew, an annotation does not.
        let seen = Event::Seen(Some(held_by("other", 8, 2)));
        assert_eq!(election.on_event(now(10.0), seen), follow_until(30.0));
        let seen = Event::Seen(Some(held_by("other", 9, 2)));
        assert_eq!(election.on_event(now(29.0), seen), follow_until(30.0));
        assert_eq!(election.on_event(now(29.9), Event::Tick), follow_until(30.0));
        let lease = written(election.on_event(now(30.0), Event::Tick));
        assert_eq!(lease.metadata.resource_version.as_deref(), Some("9"));
        assert_eq!(lease.metadata.uid.as_deref(), Some("u"));
        let spec = lease.spec.unwrap();
        assert_eq!(
            (spec.holder_identity.as_deref(), spec.lease_transitions),
            (Some(ME), Some(4))
        );
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let mut election = election();
        election.on_event(now(2.0), Event::Seen(Some(held_by("other", 7, 1))));
        let lease = written(election.on_event(now(2.5), Event::Seen(Some(released(8, 2)))));
        assert_eq!(lease.metadata.resource_version.as_deref(), Some("8"));
    }

    #[test]
    fn a_lease_that_somebody_else_emptied_or_shortened_is_not_taken_before_its_holder_must_know() {
        let short = |holder: &str| {
            let mut lease = held_by(holder, 8, 2);
            lease.spec.as_mut().unwrap().lease_duration_seconds = Some(1);
            lease
        };
        for (edited, until) in [
            (held_by("", 8, 2), 25.0),
            (short("other"), 22.0),
            (short("else"), 22.0),
        ] {
            let mut election = election();
            election.on_event(now(2.0), Event::Seen(Some(held_by("other", 7, 1))));
            assert_eq!(
                election.on_event(now(5.0), Event::Seen(Some(edited))),
                follow_until(until)
            );
        }
    }

    #[test]
    fn who_was_faster_is_waited_for() {
        let mut election = election();
        election.on_event(now(2.0), Event::Seen(Some(released(7, 1))));
        assert_eq!(election.on_event(now(2.1), Event::Refused), wait_until(4.1));
        assert_eq!(election.on_event(now(4.1), Event::Tick), Command::Read);
        let seen = Event::Seen(Some(held_by("faster", 8, 2)));
        assert_eq!(election.on_event(now(4.2), seen), follow_until(24.2));
    }

    #[test]
    fn a_claim_whose_answer_was_lost_counts_only_when_it_is_written_again() {
        let mut election = election();
        election.on_event(now(1.0), Event::Seen(None));
        assert_eq!(
            election.on_event(now(4.0), Event::Failed("lost".to_owned())),
            wait_until(6.0)
        );
        assert_eq!(election.on_event(now(6.0), Event::Tick), Command::Read);
        let lease = written(election.on_event(now(6.1), Event::Seen(Some(held_by(ME, 1, 0)))));
        assert_eq!(election.standing(), Standing::Unknown);
        let sent = Moment::from_secs_f64(6.1);
        assert_eq!(
            election.on_event(now(6.2), Event::Written { sent, lease }),
            wait_until(10.1)
        );
        assert_eq!(election.standing(), Standing::Leads);
    }

    #[test]
    fn a_lease_that_is_deleted_is_not_made_again_before_its_holder_must_know() {
        let mut election = election();
        election.on_event(now(2.0), Event::Seen(Some(held_by("other", 7, 1))));
        assert_eq!(election.on_event(now(3.0), Event::Seen(None)), wait_until(22.0));
        let lease = written(election.on_event(now(22.0), Event::Tick));
        assert_eq!(lease.metadata.resource_version, None);
    }

    #[test]
    fn a_watch_that_ends_at_once_is_paced() {
        let mut election = election();
        election.on_event(now(2.0), Event::Seen(Some(held_by("other", 7, 1))));
        assert_eq!(election.on_event(now(2.0), Event::WatchEnded), wait_until(4.0));
        assert_eq!(election.on_event(now(9.0), Event::WatchEnded), Command::Read);
    }

    #[test]
    fn a_leader_renews_from_the_time_its_last_request_was_sent() {
        let mut election = leader();
        let lease = written(election.on_event(now(5.0), Event::Tick));
        let spec = lease.spec.clone().unwrap();
        assert_eq!(
            (spec.holder_identity.as_deref(), spec.lease_transitions),
            (Some(ME), Some(3))
        );
        let sent = Moment::from_secs(5);
        assert_eq!(
            election.on_event(now(7.5), Event::Written { sent, lease }),
            wait_until(9.0)
        );
    }

    #[test]
    fn a_leader_that_can_not_renew_ends_at_the_renew_deadline() {
        let mut election = leader();
        written(election.on_event(now(5.0), Event::Tick));
        let failed = || Event::Failed("no answer".to_owned());
        assert_eq!(election.on_event(now(8.0), failed()), wait_until(10.0));
        assert_eq!(election.on_event(now(10.0), Event::Tick), Command::Read);
        assert_eq!(election.patience(Moment::from_secs(10)), Duration::from_secs(1));
        assert_eq!(election.on_event(now(10.5), failed()), wait_until(11.0));
        assert_eq!(election.standing(), Standing::Leads);
        assert_eq!(election.on_event(now(11.0), Event::Tick), Command::End);
        assert_eq!(lost(&election), "it could not be renewed for 10s: no answer");
        assert_eq!(election.released(now(11.0)), None);
    }

    #[test]
    fn a_frozen_leader_ends_when_it_goes_on_too_late() {
        let mut election = leader();
        assert_eq!(election.on_event(now(60.0), Event::Tick), Command::End);
        assert!(lost(&election).contains("this process did not run"));
        // An answer that comes after the deadline of its own request is no renewal.
        let mut election = leader();
        let lease = written(election.on_event(now(5.0), Event::Tick));
        let sent = Moment::from_secs(5);
        assert_eq!(
            election.on_event(now(15.0), Event::Written { sent, lease }),
            Command::End
        );
    }

    #[test]
    fn a_leader_whose_lease_is_gone_ends_at_once() {
        for (lease, reason) in [
            (Some(held_by("thief", 9, 9)), "thief has taken it"),
            (Some(held_by("", 9, 9)), "somebody emptied it"),
            (None, "it was deleted"),
        ] {
            let mut election = leader();
            written(election.on_event(now(5.0), Event::Tick));
            assert_eq!(election.on_event(now(5.1), Event::Refused), wait_until(7.1));
            assert_eq!(election.on_event(now(7.1), Event::Tick), Command::Read);
            assert_eq!(election.on_event(now(7.2), Event::Seen(lease)), Command::End);
            assert!(lost(&election).contains(reason), "{}", lost(&election));
        }
    }

    #[test]
    fn a_leader_whose_lease_was_labelled_renews_the_new_version() {
        let mut election = leader();
        written(election.on_event(now(5.0), Event::Tick));
        election.on_event(now(5.1), Event::Refused);
        election.on_event(now(7.1), Event::Tick);
        let lease = written(election.on_event(now(7.2), Event::Seen(Some(held_by(ME, 9, 0)))));
        assert_eq!(lease.metadata.resource_version.as_deref(), Some("9"));
    }

    #[test]
    fn a_leader_that_goes_empties_the_version_it_knows() {
        let lease = leader().released(now(2.0)).unwrap();
        assert_eq!(lease.metadata.resource_version.as_deref(), Some("1"));
        assert_eq!(lease.metadata.uid.as_deref(), Some("u"));
        let spec = lease.spec.unwrap();
        assert_eq!(
            (spec.holder_identity, spec.lease_duration_seconds),
            (None, Some(1))
        );
        assert_eq!(election().released(now(2.0)), None);
    }
}
