//! Requests of a kubectl, and how it prints their errors; files that its pod mounts.

use std::{fmt, sync::Arc};

use serde_json::{Value, json};

use crate::api::FaultAnswer;
use crate::api::kinds::Kind;
use crate::api::request::ApiRequest;
use crate::api::state::State;
use crate::api::status::ApiError;
use crate::api::verbs::Reply;
use crate::kubectl::Process;

/// Why a command fails.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The server said no.
    Status(ApiError),
    /// kubectl's own words, complete.
    Text(String),
}

impl Failure {
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Status(error) => error.code(),
            Self::Text(_) => 0,
        }
    }

    /// The error itself, as it stands inside another message.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Status(error) => error.message(),
            Self::Text(text) => text,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self {
            Self::Text(text) => return f.write_str(text),
            Self::Status(error) => error,
        };
        match error.reason() {
            "Invalid" => {
                let details = &error.0["details"];
                let causes: Vec<String> = details["causes"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|c| {
                        let text = |field: &str| c[field].as_str().unwrap_or("").to_owned();
                        format!("{}: {}", text("field"), text("message"))
                    })
                    .collect();
                let named = !details["kind"].is_null() || !details["name"].is_null();
                if named {
                    let text = |field: &str| details[field].as_str().unwrap_or("");
                    write!(f, "The {} {:?} is invalid", text("kind"), text("name"))?;
                } else {
                    f.write_str("The request is invalid")?;
                    if causes.is_empty() {
                        return write!(f, ": {}", error.message());
                    }
                }
                match causes.as_slice() {
                    [] => Ok(()),
                    [one] => write!(f, ": {one}"),
                    many => write!(f, ": \n* {}", many.join("\n* ")),
                }
            }
            "Unauthorized" => {
                write!(
                    f,
                    "error: You must be logged in to the server ({})",
                    error.message()
                )
            }
            "" => write!(f, "Error from server: {}", error.message()),
            reason => write!(f, "Error from server ({reason}): {}", error.message()),
        }
    }
}

impl Process {
    /// Sends a request and lets the world react.
    pub(crate) fn call(
        &self,
        state: &mut State,
        method: &str,
        target: &str,
        media: &str,
        body: Vec<u8>,
    ) -> Result<Arc<Value>, Failure> {
        let mut request = ApiRequest::parse(&self.user, method, target, body);
        media.clone_into(&mut request.content_type);
        "kubectl/v1.35.4".clone_into(&mut request.user_agent);
        let fault = state.faults.clone().and_then(|function| function(&request.info));
        let reply = match &fault {
            Some(fault) if !fault.commit => None,
            _ => Some(state.handle(&request)),
        };
        state.settle();
        match fault.map(|fault| fault.answer) {
            Some(FaultAnswer::Status(code)) => {
                if reply.is_none() {
                    state.record(&request, code);
                }
                return Err(Failure::Status(ApiError::generic(code)));
            }
            Some(FaultAnswer::Dropped) => {
                return Err(Failure::Text("Unable to connect to the server: EOF".to_owned()));
            }
            // Those are of a client and its connection.
            Some(
                FaultAnswer::Ordinary
                | FaultAnswer::Underway
                | FaultAnswer::Lagging(_)
                | FaultAnswer::Died { .. },
            )
            | None => {}
        }
        match reply {
            Some(Reply::Object(code, object)) if code < 400 => Ok(object),
            Some(Reply::Object(_, object)) => Err(Failure::Status(ApiError(Box::new(Value::clone(&object))))),
            Some(Reply::Text(..)) | None => Err(Failure::Text(
                "Error from server (NotFound): the server could not find the requested resource".to_owned(),
            )),
            Some(Reply::Watch(_)) => Err(Failure::Text("error: unexpected stream".to_owned())),
        }
    }

    pub(crate) fn get(&self, state: &mut State, target: &str) -> Result<Arc<Value>, Failure> {
        self.call(state, "GET", target, "", Vec::new())
    }

    /// The query that every write carries.
    pub(crate) fn write_query(&self, manager: &str) -> String {
        let dry_run = if self.dry_run() { "&dryRun=All" } else { "" };
        format!("?fieldManager={manager}{dry_run}")
    }

    /// The resource and path of `TYPE/NAME`.
    pub(crate) fn resolve(&self, state: &State, target: &str) -> Result<(Arc<Kind>, String), Failure> {
        let (word, name) = target.split_once('/').ok_or_else(|| {
            Failure::Text(
                "error: arguments in resource/name form must have a single resource and name".to_owned(),
            )
        })?;
        let kind = find_kind(state, word).ok_or_else(|| {
            Failure::Text(format!(
                "error: the server doesn't have a resource type \"{word}\""
            ))
        })?;
        let namespace = self.arguments.flag("namespace").unwrap_or(&self.namespace);
        let path = path_of(&kind, namespace, name);
        Ok((kind, path))
    }

    /// A file that the container sees.
    pub(crate) fn read_file(&self, state: &State, path: &str) -> Result<String, Failure> {
        let missing = || Failure::Text(format!("error: open {path}: no such file or directory"));
        let mount = self.container["volumeMounts"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|m| {
                let at = m["mountPath"].as_str().unwrap_or("").trim_end_matches('/');
                path.strip_prefix(at).is_some_and(|rest| rest.starts_with('/'))
            })
            .max_by_key(|m| m["mountPath"].as_str().map_or(0, str::len))
            .ok_or_else(missing)?;
        let at = mount["mountPath"].as_str().unwrap_or("").trim_end_matches('/');
        let file = path[at.len()..].trim_start_matches('/');
        let volume = self.pod["spec"]["volumes"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|v| v["name"] == mount["name"])
            .ok_or_else(missing)?;
        let namespace = &self.namespace;
        let item = |source: &Value| {
            source["items"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|i| i["path"] == file)
                .cloned()
        };
        if volume["downwardAPI"].is_object() {
            let field = item(&volume["downwardAPI"]).ok_or_else(missing)?;
            let path = field["fieldRef"]["fieldPath"].as_str().unwrap_or("").to_owned();
            return Ok(self.pod_field(&path));
        }
        let key_of = |source: &Value| {
            if source["items"].is_null() {
                Some(file.to_owned())
            } else {
                item(source).and_then(|i| i["key"].as_str().map(ToOwned::to_owned))
            }
        };
        if let Some(name) = volume["secret"]["secretName"].as_str() {
            let secret = state.store.find("secrets", namespace, name).ok_or_else(missing)?;
            let key = key_of(&volume["secret"]).ok_or_else(missing)?;
            let data = secret["data"][key].as_str().ok_or_else(missing)?;
            return crate::api::unbase64(data).ok_or_else(missing);
        }
        if let Some(name) = volume["configMap"]["name"].as_str() {
            let map = state
                .store
                .find("configmaps", namespace, name)
                .ok_or_else(missing)?;
            let key = key_of(&volume["configMap"]).ok_or_else(missing)?;
            return map["data"][key]
                .as_str()
                .map(ToOwned::to_owned)
                .ok_or_else(missing);
        }
        Err(missing())
    }

    fn pod_field(&self, path: &str) -> String {
        let keyed = |field: &str| {
            path.strip_prefix(&format!("metadata.{field}['"))
                .and_then(|rest| rest.strip_suffix("']"))
                .map(|key| self.pod["metadata"][field][key].clone())
        };
        let value = keyed("annotations")
            .or_else(|| keyed("labels"))
            .unwrap_or_else(|| {
                path.split('.')
                    .fold(self.pod.clone(), |value, part| value[part].clone())
            });
        value.as_str().unwrap_or("").to_owned()
    }
}

pub(crate) fn find_kind(state: &State, word: &str) -> Option<Arc<Kind>> {
    let (name, group) = word.split_once('.').map_or((word, None), |(n, g)| (n, Some(g)));
    let fits = |kind: &&Arc<Kind>| {
        (kind.plural == name || kind.kind.to_lowercase() == name.to_lowercase())
            && group.is_none_or(|group| kind.group == group)
    };
    state.kinds.all().find(fits).cloned()
}

pub(crate) fn path_of(kind: &Kind, namespace: &str, name: &str) -> String {
    let root = if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    let place = if kind.namespaced {
        format!("/namespaces/{namespace}")
    } else {
        String::new()
    };
    format!("{root}{place}/{}/{name}", kind.plural)
}

/// `deployment.apps/web`, as success is reported.
pub(crate) fn printed(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or("").to_lowercase();
    let group = object["apiVersion"]
        .as_str()
        .and_then(|v| v.split_once('/'))
        .map(|(group, _)| group);
    let kind = group.map_or_else(|| kind.clone(), |group| format!("{kind}.{group}"));
    format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap_or(""))
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// An eviction as kubectl posts it.
pub(crate) fn eviction(namespace: &str, name: &str, grace: Option<i64>, dry_run: bool) -> Value {
    let mut options = json!({});
    if let Some(grace) = grace {
        options["gracePeriodSeconds"] = json!(grace);
    }
    if dry_run {
        options["dryRun"] = json!(["All"]);
    }
    json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace}, "deleteOptions": options,
    })
}
