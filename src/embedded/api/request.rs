//! What a request asks for: the path, query and media type of an HTTP request, taken apart.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use crate::api::User;

/// What a request asks for, as the API server's request info has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// Who asks.
    pub user: User,
    /// get, list, watch, create, update, patch, delete or deletecollection.
    pub verb: String,
    /// API group; empty for the core group.
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Plural resource name, such as `deployments`; empty for paths that are no resource.
    pub resource: String,
    /// Such as `status`, `scale`, `eviction`; empty for the resource itself.
    pub subresource: String,
    /// Empty for cluster-scoped resources and for lists over all namespaces.
    pub namespace: String,
    /// Empty for lists and creations.
    pub name: String,
    /// True when nothing shall be stored.
    pub dry_run: bool,
}

/// One answered request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// What was asked.
    pub request: RequestInfo,
    /// HTTP status code of the answer.
    pub code: u16,
    /// When it was carried out, or refused.
    pub at: Timestamp,
}

pub(crate) type Query = BTreeMap<String, String>;

/// A request with its payload.
#[derive(Clone, Debug)]
pub(crate) struct ApiRequest {
    pub(crate) info: RequestInfo,
    /// The one name that a list or watch is limited to: rights may be given on it.
    pub(crate) selected: Option<String>,
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) content_type: String,
    pub(crate) user_agent: String,
    pub(crate) body: Vec<u8>,
    /// Name of the session that it came by.
    pub(crate) session: Arc<str>,
}

impl ApiRequest {
    /// Takes method, path and query apart.
    pub(crate) fn parse(user: &User, method: &str, target: &str, body: Vec<u8>) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = parse_query(query);
        let segments: Vec<String> = path
            .split('/')
            .filter(|s| !s.is_empty())
            .map(percent_decode)
            .collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let mut info = RequestInfo {
            user: user.clone(),
            verb: String::new(),
            group: String::new(),
            version: String::new(),
            resource: String::new(),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            dry_run: query.get("dryRun").is_some_and(|v| v == "All"),
        };
        let rest: &[&str] = match segments.as_slice() {
            ["api", version, rest @ ..] => {
                (*version).clone_into(&mut info.version);
                rest
            }
            ["apis", group, version, rest @ ..] => {
                (*group).clone_into(&mut info.group);
                (*version).clone_into(&mut info.version);
                rest
            }
            _ => &[],
        };
        let rest: &[&str] = match rest {
            // `namespaces/x` and `namespaces/x/status` are the Namespace itself.
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => rest,
            ["namespaces", namespace, inner @ ..] => {
                (*namespace).clone_into(&mut info.namespace);
                inner
            }
            _ => rest,
        };
        match rest {
            [resource, name, subresource @ ..] => {
                (*resource).clone_into(&mut info.resource);
                (*name).clone_into(&mut info.name);
                info.subresource = subresource.join("/");
            }
            [resource] => (*resource).clone_into(&mut info.resource),
            [] => {}
        }
        let watch = query.get("watch").is_some_and(|v| v == "true" || v == "1");
        let verb = match (method, info.name.is_empty()) {
            ("GET", true) if watch => "watch",
            ("GET", true) if !info.resource.is_empty() => "list",
            ("GET", _) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "deletecollection",
            ("DELETE", false) => "delete",
            _ => "",
        };
        verb.clone_into(&mut info.verb);
        let selected = matches!(verb, "list" | "watch" | "deletecollection")
            .then(|| selected_name(query.get("fieldSelector").map_or("", String::as_str)))
            .flatten();
        Self {
            info,
            selected,
            path: path.to_owned(),
            query,
            content_type: String::new(),
            user_agent: String::new(),
            body,
            session: Arc::from(""),
        }
    }

    pub(crate) fn query(&self, key: &str) -> &str {
        self.query.get(key).map_or("", String::as_str)
    }
}

fn selected_name(selector: &str) -> Option<String> {
    let mut terms = selector.split(',').filter_map(|term| {
        let value = term.strip_prefix("metadata.name=")?;
        Some(value.strip_prefix('=').unwrap_or(value).to_owned())
    });
    terms.next()
}

fn parse_query(query: &str) -> Query {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (
                percent_decode(&key.replace('+', " ")),
                percent_decode(&value.replace('+', " ")),
            )
        })
        .collect()
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        if let (b'%', Some(Ok(byte))) = (bytes[i], hex.map(|h| u8::from_str_radix(h, 16))) {
            out.push(byte);
            i += 3;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
