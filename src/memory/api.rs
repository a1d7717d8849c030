//! Requests: authorisation, then the verb.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{
    delete::{DeleteOptions, Deleted},
    discovery,
    events_api::{present, to_stored},
    kinds::Kind,
    patch,
    request::{ApiRequest, RequestRecord},
    selector::Selector,
    state::State,
    status::ApiError,
    store::{Author, Key, WatchFrom},
    watch::{Watcher, line},
    world::Timer,
    write::{Part, WriteOptions},
};

/// What a request is answered with.
#[derive(Debug)]
pub(super) enum Reply {
    Object(u16, Arc<Value>),
    Text(u16, &'static str),
    Watch(UnboundedReceiver<Bytes>),
}

impl Reply {
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::Object(code, _) | Self::Text(code, _) => *code,
            Self::Watch(_) => 200,
        }
    }
}

type Outcome = Result<Reply, ApiError>;

impl State {
    /// Answers a request and records it. The world has not reacted yet: see `settle`.
    pub(super) fn handle(&mut self, request: &ApiRequest) -> Reply {
        let before = self.store.write_as(Author {
            user: Arc::from(request.info.user.name.as_str()),
            session: Arc::clone(&request.session),
        });
        let reply = self
            .authorize(&request.info, &request.path)
            .and_then(|()| self.dispatch(request))
            .unwrap_or_else(|error| Reply::Object(error.code(), Arc::new(*error.0)));
        self.store.write_as(before);
        self.record(request, reply.code());
        reply
    }

    pub(super) fn record(&mut self, request: &ApiRequest, code: u16) {
        if self.options.request_log == 0 {
            return;
        }
        if self.log.len() >= self.options.request_log {
            self.log.pop_front();
        }
        self.log.push_back(RequestRecord {
            request: request.info.clone(),
            code,
        });
    }

    fn dispatch(&mut self, request: &ApiRequest) -> Outcome {
        let info = &request.info;
        if info.resource.is_empty() {
            return Ok(discovery::answer(&self.kinds, &request.path)
                .map_or(Reply::Text(404, "404 page not found\n"), |v| {
                    Reply::Object(200, Arc::new(v))
                }));
        }
        let Some(kind) = self
            .kinds
            .by_path(&info.group, &info.version, &info.resource)
            .cloned()
        else {
            return Ok(Reply::Text(404, "404 page not found\n"));
        };
        if !kind.namespaced && !info.namespace.is_empty() {
            return Ok(Reply::Text(404, "404 page not found\n"));
        }
        match (info.subresource.as_str(), info.verb.as_str()) {
            ("", "create") if kind.create_only => self.access_review(&kind, request),
            (_, _) if kind.create_only => Err(ApiError::method_not_allowed()),
            ("", "list") => self.list(&kind, request),
            ("", "watch") => self.watch(&kind, request),
            ("", "deletecollection") => self.delete_collection(&kind, request),
            ("", "create") => self.post(&kind, request),
            ("", "delete") => self.delete_one(&kind, request),
            ("", "get") => self.get_one(&kind, request),
            ("status", "get") if kind.status => self.get_one(&kind, request),
            ("", "update") => self.put(&kind, request, Part::Main),
            ("status", "update") if kind.status => self.put(&kind, request, Part::Status),
            ("", "patch") => self.patch(&kind, request, Part::Main),
            ("status", "patch") if kind.status => self.patch(&kind, request, Part::Status),
            ("scale", "get" | "update" | "patch") if kind.scale => self.scale(&kind, request),
            ("eviction", "create") if kind.is("pods") => self.evict(&kind, request),
            ("binding", "create") if kind.is("pods") => self.bind(&kind, request),
            ("", _) => Err(ApiError::method_not_allowed()),
            ("status", _) if kind.status => Err(ApiError::method_not_allowed()),
            ("scale", _) if kind.scale => Err(ApiError::method_not_allowed()),
            ("eviction" | "binding", _) if kind.is("pods") => Err(ApiError::method_not_allowed()),
            _ => Ok(Reply::Text(404, "404 page not found\n")),
        }
    }

    fn key(kind: &Kind, request: &ApiRequest) -> Key {
        Key::of(kind, &request.info.namespace, &request.info.name)
    }

    fn current(&self, kind: &Kind, request: &ApiRequest) -> Result<Arc<Value>, ApiError> {
        self.store
            .get(&Self::key(kind, request))
            .cloned()
            .ok_or_else(|| ApiError::not_found(kind, &request.info.name))
    }

    fn get_one(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
        Ok(Reply::Object(200, present(kind, &self.current(kind, request)?)))
    }

    fn selector(kind: &Kind, request: &ApiRequest) -> Result<Selector, ApiError> {
        Selector::parse(
            kind,
            request.query("labelSelector"),
            request.query("fieldSelector"),
        )
    }

    fn list(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
        let selector = Self::selector(kind, request)?;
        let limit = request.query("limit").parse().ok().filter(|limit| *limit > 0);
        let token = request.query("continue");
        let after = if token.is_empty() {
            None
        } else {
            let bad = || ApiError::bad_request("continue key is not valid");
            let text = super::unbase64(token).ok_or_else(bad)?;
            let (namespace, name) = text.split_once('/').ok_or_else(bad)?;
            Some((namespace.to_owned(), name.to_owned()))
        };
        let (items, next, remaining) = self.store.page(
            kind,
            &request.info.namespace,
            &selector,
            after.as_ref().map(|(ns, n)| (ns.as_str(), n.as_str())),
            limit,
        );
        let items: Vec<Value> = items
            .iter()
            .map(|item| {
                let mut item = Value::clone(&present(kind, item));
                // Items of built-in lists carry no type.
                if kind.custom.is_none()
                    && let Some(map) = item.as_object_mut()
                {
                    map.remove("apiVersion");
                    map.remove("kind");
                }
                item
            })
            .collect();
        let mut metadata = json!({"resourceVersion": self.store.revision().to_string()});
        if let Some(next) = next {
            metadata["continue"] = json!(super::base64(
                format!("{}/{}", next.namespace, next.name).as_bytes()
            ));
            metadata["remainingItemCount"] = json!(remaining);
        }
        Ok(Reply::Object(
            200,
            Arc::new(json!({
                "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
                "metadata": metadata, "items": items,
            })),
        ))
    }

    fn watch(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
        let mut selector_request = request.clone();
        // Watching one object by its path is a watch of its name.
        if !request.info.name.is_empty() {
            selector_request.query.insert(
                "fieldSelector".to_owned(),
                format!("metadata.name={}", request.info.name),
            );
        }
        let selector = Self::selector(kind, &selector_request)?;
        let version = request.query("resourceVersion");
        let initial = match request.query("sendInitialEvents") {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        let from = match (initial, version) {
            (Some(true), _) | (None, "" | "0") => WatchFrom::Now { initial: true },
            (Some(false), "" | "0") => WatchFrom::Now { initial: false },
            (_, version) => WatchFrom::Revision(version.parse().map_err(|_| {
                ApiError::bad_request(&format!("invalid resource version \"{version}\": invalid"))
            })?),
        };
        let (sender, receiver) = unbounded_channel();
        let watcher = Watcher {
            kind: Arc::clone(kind),
            namespace: (!request.info.namespace.is_empty()).then(|| request.info.namespace.clone()),
            selector,
            sender: sender.clone(),
        };
        match self.store.watch(watcher, from) {
            Ok(id) => {
                if request.query("allowWatchBookmarks") == "true" {
                    if initial == Some(true) {
                        self.store.bookmark(id, true);
                    }
                    self.after(self.options.bookmark_interval, Timer::Bookmark(id));
                }
                if let Ok(seconds) = request.query("timeoutSeconds").parse::<u64>() {
                    self.after(std::time::Duration::from_secs(seconds), Timer::EndWatch(id));
                }
            }
            // The stream is opened and its only event says why it ends.
            Err((requested, oldest)) => {
                let _ = sender.send(line("ERROR", &ApiError::gone(requested, oldest).0));
            }
        }
        Ok(Reply::Watch(receiver))
    }

    fn post(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
        if !request.info.name.is_empty() {
            return Err(ApiError::method_not_allowed());
        }
        if kind.namespaced && request.info.namespace.is_empty() {
            return Err(ApiError::method_not_allowed());
        }
        let object = to_stored(kind, parse(&request.body)?);
        let object = self.create(kind, &request.info.namespace, object, &options(request))?;
        Ok(Reply::Object(201, present(kind, &object)))
    }

    fn put(&mut self, kind: &Arc<Kind>, request: &ApiRequest, part: Part) -> Outcome {
        let object = to_stored(kind, parse(&request.body)?);
        check_url(&object, request)?;
        let key = Self::key(kind, request);
        if self.store.get(&key).is_none() && kind.is("leases.coordination.k8s.io") {
            let object = self.create(kind, &request.info.namespace, object, &options(request))?;
            return Ok(Reply::Object(201, object));
        }
        let object = self.update(kind, &key, part, object, &options(request))?;
        Ok(Reply::Object(200, present(kind, &object)))
    }

    fn patch(&mut self, kind: &Arc<Kind>, request: &ApiRequest, part: Part) -> Outcome {
        let mut options = options(request);
        options.by_patch = true;
        let media = request.content_type.split(';').next().unwrap_or("").trim();
        if media == "application/apply-patch+yaml" {
            return self.apply(kind, request, part, &options);
        }
        let current = self.current(kind, request)?;
        let shown = present(kind, &current);
        let patched = apply_patch(kind, media, &shown, &request.body)?;
        let patched = to_stored(kind, patched);
        let object = self.update(kind, &Self::key(kind, request), part, patched, &options)?;
        Ok(Reply::Object(200, present(kind, &object)))
    }

    /// Server-side apply: creates, or merges under the rules of field ownership.
    fn apply(
        &mut self,
        kind: &Arc<Kind>,
        request: &ApiRequest,
        part: Part,
        options: &WriteOptions,
    ) -> Outcome {
        if request.query("fieldManager").is_empty() {
            return Err(ApiError::bad_request(
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for \
                 apply patch",
            ));
        }
        let text = String::from_utf8_lossy(&request.body);
        let mut config: Value = serde_saphyr::from_str(&text)
            .map_err(|e| ApiError::bad_request(&format!("error decoding YAML: {e}")))?;
        check_shape(&config)?;
        if config["metadata"]["managedFields"]
            .as_array()
            .is_some_and(|m| !m.is_empty())
        {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        config["metadata"]["name"] = json!(request.info.name);
        let key = Self::key(kind, request);
        let manager = options.manager(kind, true);
        let mut owners = self
            .store
            .owners
            .get(&key)
            .map(|owners| super::fields::FieldOwners::clone(owners))
            .unwrap_or_default();
        let force = request.query("force") == "true";
        let Some(live) = self.store.get(&key).cloned() else {
            if part == Part::Status {
                return Err(ApiError::not_found(kind, &request.info.name));
            }
            // Who creates by applying needs the right to create as well.
            let mut creation = request.info.clone();
            "create".clone_into(&mut creation.verb);
            self.authorize(&creation, &request.path)?;
            let made = owners.apply(kind, &manager, &json!({}), &config, force)?;
            let object = self.create(kind, &request.info.namespace, made, options)?;
            self.keep_owners(&key, owners, options);
            return Ok(Reply::Object(201, object));
        };
        let config_version = config["metadata"]["resourceVersion"].as_str();
        if config_version.is_some_and(|v| live["metadata"]["resourceVersion"] != v) {
            return Err(ApiError::modified(kind, &request.info.name));
        }
        let merged = owners.apply(kind, &manager, &live, &config, force)?;
        let object = self.update(kind, &key, part, merged, options)?;
        self.keep_owners(&key, owners, options);
        Ok(Reply::Object(200, object))
    }

    fn keep_owners(&mut self, key: &Key, owners: super::fields::FieldOwners, options: &WriteOptions) {
        if !options.dry_run && self.store.get(key).is_some() {
            self.store.owners.insert(key.clone(), Arc::new(owners));
        }
    }

    fn delete_one(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
        let options = delete_options(request)?;
        match self.delete(kind, &Self::key(kind, request), &options)? {
            Deleted::Gone(object)
                if matches!(kind.resource.as_str(), "pods" | "services" | "serviceaccounts") =>
            {
                Ok(Reply::Object(200, object))
            }
            Deleted::Gone(object) => {
                let mut details = json!({
                    "name": request.info.name, "kind": kind.plural, "uid": object["metadata"]["uid"],
                });
                if !kind.group.is_empty() {
                    details["group"] = json!(kind.group);
                }
                Ok(Reply::Object(
                    200,
                    Arc::new(json!({
                        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                        "details": details,
                    })),
                ))
            }
            Deleted::Pending(object) => Ok(Reply::Object(200, present(kind, &object))),
        }
    }

    fn delete_collection(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
        let selector = Self::selector(kind, request)?;
        let options = delete_options(request)?;
        let (items, _, _) = self
            .store
            .page(kind, &request.info.namespace, &selector, None, None);
        let mut deleted = Vec::new();
        for item in items {
            let text = |field: &str| item["metadata"][field].as_str().unwrap_or("");
            let key = Key::of(kind, text("namespace"), text("name"));
            match self.delete(kind, &key, &options)? {
                Deleted::Gone(object) | Deleted::Pending(object) => deleted.push(Value::clone(&object)),
            }
        }
        Ok(Reply::Object(
            200,
            Arc::new(json!({
                "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
                "metadata": {"resourceVersion": self.store.revision().to_string()}, "items": deleted,
            })),
        ))
    }

    fn access_review(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
        let is_self = kind.plural.starts_with("self");
        let mut review = self.review(&request.info.user, parse(&request.body)?, is_self)?;
        review["apiVersion"] = json!(kind.api_version());
        review["kind"] = json!(kind.kind);
        Ok(Reply::Object(201, Arc::new(review)))
    }

    fn scale(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
        let current = self.current(kind, request)?;
        let shown = scale_of(&current);
        let wanted = match request.info.verb.as_str() {
            "get" => return Ok(Reply::Object(200, Arc::new(shown))),
            "update" => {
                let wanted = parse(&request.body)?;
                check_url(&wanted, request)?;
                wanted
            }
            _ => {
                let media = request.content_type.split(';').next().unwrap_or("").trim();
                apply_patch(kind, media, &shown, &request.body)?
            }
        };
        let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            return Err(ApiError::invalid(
                &Kind {
                    group: "autoscaling".to_owned(),
                    version: "v1".to_owned(),
                    plural: "scales".to_owned(),
                    kind: "Scale".to_owned(),
                    namespaced: true,
                    status: false,
                    scale: false,
                    create_only: false,
                    resource: "scales.autoscaling".to_owned(),
                    storage: Arc::clone(&kind.storage),
                    custom: None,
                },
                &request.info.name,
                &[super::FieldError::invalid(
                    "spec.replicas",
                    &json!(replicas),
                    "must be greater than or equal to 0",
                )],
            ));
        }
        let mut new = Value::clone(&current);
        new["spec"]["replicas"] = json!(replicas);
        new["metadata"]["resourceVersion"] = wanted["metadata"]["resourceVersion"].clone();
        let object = self.update(
            kind,
            &Self::key(kind, request),
            Part::Main,
            new,
            &options(request),
        )?;
        Ok(Reply::Object(200, Arc::new(scale_of(&object))))
    }

    fn bind(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
        let binding = parse(&request.body)?;
        let current = self.current(kind, request)?;
        if current["spec"]["nodeName"]
            .as_str()
            .is_some_and(|n| !n.is_empty())
        {
            let why = format!(
                "pod {} is already assigned to node {}",
                request.info.name, current["spec"]["nodeName"]
            );
            return Err(ApiError::conflict(kind, &request.info.name, &why));
        }
        let mut pod = Value::clone(&current);
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        self.update(
            kind,
            &Self::key(kind, request),
            Part::Main,
            pod,
            &options(request),
        )?;
        Ok(Reply::Object(
            201,
            Arc::new(json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
            })),
        ))
    }
}

fn scale_of(object: &Value) -> Value {
    let labels: BTreeMap<String, String> = object["spec"]["selector"]["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.as_str().unwrap_or("").to_owned()))
        .collect();
    let selector: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let metadata = &object["metadata"];
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": selector.join(","),
        },
    })
}

fn apply_patch(kind: &Kind, media: &str, current: &Value, body: &[u8]) -> Result<Value, ApiError> {
    match media {
        "application/json-patch+json" => patch::json(current, body),
        "application/merge-patch+json" => patch::merge(current, body),
        "application/strategic-merge-patch+json" if kind.custom.is_none() => patch::strategic(current, body),
        other => Err(ApiError::unsupported_media_type(other)),
    }
}

/// A body that is an object with metadata that is one, or has none.
fn parse(body: &[u8]) -> Result<Value, ApiError> {
    let bad =
        |why: &str| ApiError::bad_request(&format!("couldn't get version/kind; json parse error: {why}"));
    let object: Value = serde_json::from_slice(body).map_err(|e| bad(&e.to_string()))?;
    check_shape(&object)?;
    Ok(object)
}

fn check_shape(object: &Value) -> Result<(), ApiError> {
    let metadata = &object["metadata"];
    if object.is_object() && (metadata.is_null() || metadata.is_object()) {
        Ok(())
    } else {
        Err(ApiError::bad_request(
            "json: cannot unmarshal into Go value of type v1.ObjectMeta",
        ))
    }
}

fn check_url(object: &Value, request: &ApiRequest) -> Result<(), ApiError> {
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    if !name.is_empty() && name != request.info.name {
        return Err(ApiError::bad_request(&format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            request.info.name
        )));
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("");
    if !namespace.is_empty() && namespace != request.info.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

pub(super) fn options(request: &ApiRequest) -> WriteOptions {
    let manager = match request.query("fieldManager") {
        "" => request
            .user_agent
            .split('/')
            .next()
            .filter(|a| !a.is_empty())
            .unwrap_or("unknown"),
        manager => manager,
    };
    WriteOptions {
        manager: manager.to_owned(),
        subresource: request.info.subresource.clone(),
        dry_run: request.info.dry_run,
        strict: request.query("fieldValidation") == "Strict",
        keep_status: false,
        by_patch: false,
        trusted: false,
    }
}

pub(super) fn delete_options(request: &ApiRequest) -> Result<DeleteOptions, ApiError> {
    let body = if request.body.is_empty() {
        json!({})
    } else {
        parse(&request.body)?
    };
    let mut options = DeleteOptions::parse(&body);
    options.dry_run |= request.info.dry_run;
    if options.grace.is_none() {
        options.grace = request.query("gracePeriodSeconds").parse().ok();
    }
    let policy = request.query("propagationPolicy");
    if options.propagation.is_none() && !policy.is_empty() {
        options.propagation = Some(policy.to_owned());
    }
    Ok(options)
}
