//! Requests: authorisation, then the verb.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::api::body::{
    apply_patch, check_declared, check_eviction, check_patched, check_shape, check_url, keep_part, parse,
    read, text_of, whole_numbers,
};
use crate::api::delete::{DeleteOptions, Deleted};
use crate::api::events_api::{present, to_stored};
use crate::api::kinds::Kind;
use crate::api::request::{ApiRequest, RequestRecord};
use crate::api::selector::Selector;
use crate::api::state::State;
use crate::api::status::ApiError;
use crate::api::store::{Author, Key, WatchFrom};
use crate::api::watch::{Watcher, line};
use crate::api::write::{Part, WriteOptions};
use crate::api::{discovery, options, typed};
use crate::controllers::Timer;

/// What a request is answered with.
#[derive(Debug)]
pub(crate) enum Reply {
    Object(u16, Arc<Value>),
    Text(u16, &'static str),
    Watch(UnboundedReceiver<Bytes>),
}

impl Reply {
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Object(code, _) | Self::Text(code, _) => *code,
            Self::Watch(_) => 200,
        }
    }
}

pub(crate) type Outcome = Result<Reply, ApiError>;

impl State {
    /// Answers a request and records it. The world has not reacted yet: see `settle`.
    pub(crate) fn handle(&mut self, request: &ApiRequest) -> Reply {
        let before = self.store.write_as(Author {
            user: Arc::from(request.info.user.name.as_str()),
            session: Arc::clone(&request.session),
        });
        let reply = self
            .authorize(&request.info, request.selected.as_deref(), &request.path)
            .and_then(|()| self.dispatch(request))
            .unwrap_or_else(|error| Reply::Object(error.code(), Arc::new(*error.0)));
        self.store.write_as(before);
        self.record(request, reply.code());
        reply
    }

    pub(crate) fn record(&mut self, request: &ApiRequest, code: u16) {
        if self.options.request_log == 0 {
            return;
        }
        if self.log.len() >= self.options.request_log {
            self.log.pop_front();
        }
        self.log.push_back(RequestRecord {
            request: request.info.clone(),
            code,
            at: self.now(),
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
            return self.no_such_path(request);
        };
        if !kind.namespaced && !info.namespace.is_empty() {
            return self.no_such_path(request);
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
            ("eviction", "create") if kind.is_resource("pods") => {
                check_eviction(request)?;
                self.evict(&kind, request)
            }
            ("binding", "create") if kind.is_resource("pods") => self.bind(&kind, request),
            ("", _) => Err(ApiError::method_not_allowed()),
            ("status", verb) if kind.status && kind.custom.is_some() => {
                Err(ApiError::not_supported(&kind, verb))
            }
            ("status", _) if kind.status => Err(ApiError::method_not_allowed()),
            ("scale", _) if kind.scale => Err(ApiError::method_not_allowed()),
            ("eviction" | "binding", _) if kind.is_resource("pods") => Err(ApiError::method_not_allowed()),
            _ if kind.custom.is_some() => Err(ApiError::not_found(&kind, &info.name)),
            _ => Err(ApiError::no_such_resource(json!({}))),
        }
    }

    /// Below a group that the server itself serves a Status says so, elsewhere a page.
    fn no_such_path(&self, request: &ApiRequest) -> Outcome {
        let built_in = |kind: &&Arc<Kind>| kind.group == request.info.group && kind.custom.is_none();
        if self.kinds.all().any(|kind| built_in(&kind)) {
            return Err(ApiError::no_such_resource(json!({})));
        }
        Ok(Reply::Text(404, "404 page not found\n"))
    }

    pub(crate) fn key(kind: &Kind, request: &ApiRequest) -> Key {
        Key::of(kind, &request.info.namespace, &request.info.name)
    }

    pub(crate) fn current(&self, kind: &Kind, request: &ApiRequest) -> Result<Arc<Value>, ApiError> {
        self.store
            .get(&Self::key(kind, request))
            .cloned()
            .ok_or_else(|| ApiError::not_found(kind, &request.info.name))
    }

    fn get_one(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
        let version = request.query("resourceVersion");
        if !version.is_empty() {
            let version = options::version_option(version).map_err(|why| ApiError::internal(&why))?;
            self.check_future(version)?;
        }
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
        options::check_list(request)?;
        let selector = Self::selector(kind, request)?;
        self.check_list_version(request)?;
        let limit = request.query("limit").parse().ok().filter(|limit| *limit > 0);
        let token = request.query("continue");
        let after = if token.is_empty() {
            None
        } else {
            let bad = |why: &str| {
                ApiError::bad_request(&format!(
                    "invalid continue token: continue key is not valid: {why}"
                ))
            };
            let text = token_text(token).ok_or_else(|| bad("illegal base64 data at input byte 0"))?;
            let (namespace, name) = text
                .split_once('/')
                .ok_or_else(|| bad("server does not recognize this encoded version "))?;
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
            .map(|item| as_item(kind, &present(kind, item)))
            .collect();
        let mut metadata = self.list_metadata(kind);
        if let Some(next) = next {
            metadata["continue"] = json!(token_of(&format!("{}/{}", next.namespace, next.name)));
            if selector.is_empty() {
                metadata["remainingItemCount"] = json!(remaining);
            }
        }
        Ok(Reply::Object(
            200,
            Arc::new(json!({
                "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
                "metadata": metadata, "items": items,
            })),
        ))
    }

    /// The metadata of a list; that of custom resources has a place for a token also when there is none.
    fn list_metadata(&self, kind: &Kind) -> Value {
        let mut metadata = json!({"resourceVersion": self.store.revision().to_string()});
        if kind.custom.is_some() {
            metadata["continue"] = json!("");
        }
        metadata
    }

    /// All versions up to the present one are the present one here.
    fn check_list_version(&self, request: &ApiRequest) -> Result<(), ApiError> {
        let version = request.query("resourceVersion");
        if version.is_empty() {
            return Ok(());
        }
        let number = options::version_option(version)
            .map_err(|why| ApiError::bad_request(&format!("invalid resource version: {why}")))?;
        if number > 0 && !request.query("continue").is_empty() {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        self.check_future(number)
    }

    fn check_future(&self, version: u64) -> Result<(), ApiError> {
        let current = self.store.revision();
        if version > current {
            return Err(ApiError::too_large_version(version, current));
        }
        Ok(())
    }

    fn watch(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
        options::check_list(request)?;
        let selector = Self::selector(kind, request)?;
        let version = request.query("resourceVersion");
        let initial = match request.query("sendInitialEvents") {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        let from = match (initial, version) {
            (Some(true), _) | (None, "" | "0") => WatchFrom::Now { initial: true },
            (Some(false), "" | "0") => WatchFrom::Now { initial: false },
            (_, version) => {
                WatchFrom::Revision(options::version_option(version).map_err(|why| ApiError::internal(&why))?)
            }
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
        options::check_write(request, false)?;
        let object = to_stored(kind, read(kind, request)?);
        let object = self.create(kind, &request.info.namespace, object, &write_options(request))?;
        Ok(Reply::Object(201, present(kind, &object)))
    }

    fn put(&mut self, kind: &Arc<Kind>, request: &ApiRequest, part: Part) -> Outcome {
        if request.info.name.is_empty() {
            return Err(ApiError::method_not_allowed());
        }
        options::check_write(request, false)?;
        let object = to_stored(kind, read(kind, request)?);
        check_url(&object, request)?;
        let key = Self::key(kind, request);
        if self.store.get(&key).is_none() && part == Part::Main && is_made_by_updates(kind) {
            let object = self.create(kind, &request.info.namespace, object, &write_options(request))?;
            return Ok(Reply::Object(201, present(kind, &object)));
        }
        let object = self.update(kind, &key, part, object, &write_options(request))?;
        Ok(Reply::Object(200, present(kind, &object)))
    }

    fn patch(&mut self, kind: &Arc<Kind>, request: &ApiRequest, part: Part) -> Outcome {
        if request.info.name.is_empty() {
            return Err(ApiError::method_not_allowed());
        }
        let is_apply = request.content_type.starts_with("application/apply-patch+yaml");
        options::check_write(request, is_apply)?;
        let mut options = write_options(request);
        options.by_patch = true;
        let media = request.content_type.split(';').next().unwrap_or("").trim();
        if media == "application/apply-patch+yaml" {
            return self.apply(kind, request, part, &options);
        }
        let current = self.current(kind, request)?;
        let shown = present(kind, &current);
        let mut patched = apply_patch(kind, media, &shown, &request.body)?;
        whole_numbers(&mut patched);
        check_patched(kind, &patched, request)?;
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
        let text = String::from_utf8_lossy(&request.body);
        let mut config: Value = serde_saphyr::from_str(&text)
            .map_err(|e| ApiError::bad_request(&format!("error decoding YAML: {e}")))?;
        check_shape(&config)?;
        whole_numbers(&mut config);
        let (version, name) = (text_of(&config["apiVersion"]), text_of(&config["kind"]));
        if version != kind.api_version() || name != kind.kind {
            let slash = if version.contains('/') { "" } else { "/" };
            return Err(ApiError::bad_request(&format!(
                "invalid object type: {slash}{version}, Kind={name}"
            )));
        }
        let mut config = to_stored(kind, config);
        check_declared(kind, &config)?;
        check_url(&config, request)?;
        if kind.status {
            keep_part(&mut config, part);
        }
        if config["metadata"]["managedFields"]
            .as_array()
            .is_some_and(|m| !m.is_empty())
        {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        let key = Self::key(kind, request);
        let manager = options.manager(kind, true);
        let owners = self.store.owners.get(&key);
        let mut owners = owners.map(|owners| owners.known(kind)).unwrap_or_default();
        let force = request.query("force") == "true";
        let Some(live) = self.store.get(&key).cloned() else {
            if part == Part::Status {
                return Err(ApiError::not_found(kind, &request.info.name));
            }
            // Who creates by applying needs the right to create as well.
            let mut creation = request.info.clone();
            "create".clone_into(&mut creation.verb);
            self.authorize(&creation, None, &request.path)?;
            let uid = text_of(&config["metadata"]["uid"]);
            if !uid.is_empty() {
                return Err(ApiError::conflict(
                    kind,
                    &request.info.name,
                    &format!(
                        "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                    ),
                ));
            }
            let made = owners.apply(kind, &manager, &json!({}), &config, force)?;
            let object = self.create(kind, &request.info.namespace, made, options)?;
            self.keep_owners(&key, owners, options);
            return Ok(Reply::Object(201, object));
        };
        let config_version = config["metadata"]["resourceVersion"].as_str();
        if config_version.is_some_and(|v| live["metadata"]["resourceVersion"] != v) {
            return Err(ApiError::modified(kind, &request.info.name));
        }
        let before = owners.clone();
        let merged = owners.apply(kind, &manager, &live, &config, force)?;
        let mut object = self.update(kind, &key, part, merged, options)?;
        if owners != before && object == live && !options.dry_run {
            // To own a field is a change of the object, though only its owners are another.
            object = self.store.put(key.clone(), Value::clone(&live));
        }
        self.keep_owners(&key, owners, options);
        Ok(Reply::Object(200, object))
    }

    fn keep_owners(
        &mut self,
        key: &Key,
        owners: crate::api::managed_fields::FieldOwners,
        options: &WriteOptions,
    ) {
        if !options.dry_run && self.store.get(key).is_some() {
            self.store.owners.insert(key.clone(), Arc::new(owners.into()));
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
            self.delete(kind, &key, &options)?;
            deleted.push(as_item(kind, &present(kind, &item)));
        }
        let metadata = self.list_metadata(kind);
        Ok(Reply::Object(
            200,
            Arc::new(json!({
                "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
                "metadata": metadata, "items": deleted,
            })),
        ))
    }

    fn access_review(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
        let is_self = kind.plural.starts_with("self");
        options::check_write(request, false)?;
        let mut asked = read(kind, request)?;
        let unknown = typed::prune(kind, &mut asked)?;
        if request.query("fieldValidation") == "Strict" && !unknown.is_empty() {
            return Err(ApiError::strict_decoding(kind, &unknown));
        }
        let mut review = self.review(&request.info.user, asked, is_self)?;
        review["apiVersion"] = json!(kind.api_version());
        review["kind"] = json!(kind.kind);
        Ok(Reply::Object(201, Arc::new(review)))
    }
}

/// Where the next page begins, fit for a query.
fn token_of(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn token_text(token: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}

fn as_item(kind: &Kind, object: &Value) -> Value {
    let mut item = object.clone();
    // Items of built-in lists carry no type.
    if kind.custom.is_none()
        && let Some(map) = item.as_object_mut()
    {
        map.remove("apiVersion");
        map.remove("kind");
    }
    item
}

/// Kinds whose objects are made when an update finds none.
fn is_made_by_updates(kind: &Kind) -> bool {
    kind.group == "rbac.authorization.k8s.io"
        || matches!(
            kind.resource.as_str(),
            "leases.coordination.k8s.io" | "events" | "events.events.k8s.io"
        )
}

pub(crate) fn write_options(request: &ApiRequest) -> WriteOptions {
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

pub(crate) fn delete_options(request: &ApiRequest) -> Result<DeleteOptions, ApiError> {
    let body = if request.body.is_empty() {
        json!({})
    } else {
        parse(&request.body)?
    };
    options::delete(request, &body)
}
