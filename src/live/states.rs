//! The states that a workflow goes through, as its cluster tells of them.

use futures::{Stream, StreamExt as _};
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kubernaut_crds::WorkflowExecution;

use super::connection::Connection;
use crate::kube_api::chain;
use crate::terminal::Trouble;

/// What is told of one workflow.
pub(super) enum State {
    Is(Box<WorkflowExecution>),
    /// It was deleted, and there may be another one of its name.
    Gone,
    /// The connection is lost, for this reason, and is made again.
    Lost(String),
}

/// The states of a workflow from now on, without asking for them again and again. An error where one can't be read.
pub(super) fn states<'a>(
    connection: &'a Connection,
    workflow: &WorkflowExecution,
) -> impl Stream<Item = Result<State, Trouble>> + 'a {
    let name = workflow.metadata.name.as_deref().unwrap_or_default();
    let uid = workflow.metadata.uid.clone();
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut presence = Presence::default();
    let resource = ApiResource::erase::<WorkflowExecution>(&());
    let workflows =
        Api::<DynamicObject>::namespaced_with(connection.streams.clone(), &connection.namespace, &resource);
    let events = watcher(workflows, config).default_backoff();
    events.filter_map(move |event| {
        let state = match event {
            Ok(event) if presence.is_over(&event) => Some(Ok(State::Gone)),
            Ok(Event::Apply(object) | Event::InitApply(object)) if object.metadata.uid != uid => {
                Some(Ok(State::Gone))
            }
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                let typed = connection.typed::<WorkflowExecution>(object);
                Some(typed.map(|workflow| State::Is(Box::new(workflow))))
            }
            Ok(Event::Delete(_) | Event::Init | Event::InitDone) => None,
            Err(error) => Some(match refusal(&error) {
                Some(refusal) => Err(connection.trouble("watching the workflow", refusal)),
                None => Ok(State::Lost(chain(&error))),
            }),
        };
        std::future::ready(state)
    })
}

/// What the API server says where it would say it again: who asks is not known, may not, or asks for a kind that there is not.
pub(super) fn refusal(error: &watcher::Error) -> Option<&kube::Error> {
    let (watcher::Error::InitialListFailed(error)
    | watcher::Error::WatchStartFailed(error)
    | watcher::Error::WatchFailed(error)) = error
    else {
        return None;
    };
    let is_final = matches!(error, kube::Error::Api(status) if [401, 403, 404].contains(&status.code));
    is_final.then_some(error)
}

/// Whether the one object that is watched is there. After a watch that can't be resumed it is only listed anew: what was
/// deleted meanwhile is told by no event.
#[derive(Default)]
struct Presence {
    is_listed: bool,
}

impl Presence {
    fn is_over<K>(&mut self, event: &Event<K>) -> bool {
        match event {
            Event::Init => self.is_listed = false,
            Event::InitApply(_) | Event::Apply(_) => self.is_listed = true,
            Event::InitDone => return !self.is_listed,
            Event::Delete(_) => return true,
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_deleted_while_nobody_watched_is_gone() {
        let mut presence = Presence::default();
        for event in [
            Event::Init,
            Event::InitApply(()),
            Event::InitDone,
            Event::Apply(()),
            Event::Init,
        ] {
            assert!(!presence.is_over(&event), "{event:?}");
        }
        assert!(presence.is_over(&Event::<()>::InitDone));
        assert!(presence.is_over(&Event::Delete(())));
    }
}
