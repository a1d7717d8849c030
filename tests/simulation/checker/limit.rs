//! How many Jobs run at once.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::{Checker, EXECUTION};
use crate::history::{Life, has_condition, label, owner, text};

/// A pod that was told to go and has not ended by then is on a node that nobody reaches: it keeps no other from running. The
/// controller counts in whole seconds, as the API server tells when something was deleted.
const LOST_AFTER: Duration = Duration::from_secs(59);

impl Checker<'_> {
    /// Never more Jobs run at once than --max-running-jobs says.
    pub(super) fn no_more_jobs_run_than_may(&mut self) {
        // What a controller takes for over may run on.
        if self.outruns_what_is_under_way() {
            return;
        }
        let mut turns: Vec<(u64, bool, &str)> = Vec::new();
        for (uid, job) in &self.jobs {
            let born = job.born().revision;
            let over = self.over(uid, job);
            if over > born {
                turns.extend([(born, true, *uid), (over, false, *uid)]);
            }
        }
        turns.sort_unstable();
        let mut running = BTreeSet::new();
        let mut most = BTreeSet::new();
        for (_, begins, uid) in turns {
            if begins {
                running.insert(uid);
            } else {
                running.remove(uid);
            }
            if running.len() > most.len() {
                most = running.clone();
            }
        }
        if most.len() > self.max_running_jobs {
            let names: Vec<String> = most.iter().map(|uid| self.jobs[uid].name()).collect();
            let what = format!("{} Jobs ran at once: {names:?}", names.len());
            self.wrong("--max-running-jobs", &what);
        }
    }

    /// The revision from which on a Job needs no slot: nothing of it runs, or its execution has come to its end without it.
    fn over(&self, uid: &str, job: &Life<'_>) -> u64 {
        let gone = job.gone();
        let ended = job.first(|object| has_condition(object, "Complete") || has_condition(object, "Failed"));
        let pod_ended = self
            .pods
            .values()
            .filter(|pod| owner(&pod.born().object) == uid)
            .find_map(|pod| {
                let ended = pod.first(|pod| ["Succeeded", "Failed"].contains(&text(&pod["status"]["phase"])));
                ended.or(pod.gone())
            });
        let execution = self.executions.get(label(&job.born().object, EXECUTION));
        let given_up = execution.and_then(|execution| {
            let ended = |object: &Value| ["completed", "failed"].contains(&text(&object["status"]["phase"]));
            execution.first(ended).or(execution.gone())
        });
        let told_to_go = job.first(|object| !object["metadata"]["deletionTimestamp"].is_null());
        let lost = told_to_go.and_then(|state| self.first_revision_at(state.at + LOST_AFTER));
        let over = [gone, ended, pod_ended, given_up].into_iter().flatten();
        over.map(|state| state.revision)
            .chain(lost)
            .min()
            .unwrap_or(u64::MAX)
    }

    fn first_revision_at(&self, at: Duration) -> Option<u64> {
        let mut record = self.outcome.record.iter();
        record
            .find(|commit| commit.at >= at)
            .map(|commit| commit.revision)
    }
}
