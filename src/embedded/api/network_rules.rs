//! The rules of Services, and of what lets traffic through.

use serde_json::{Value, json};

use crate::api::names::{is_subdomain, key_problems, label_errors};
use crate::api::rules::{is_empty, one_of};
use crate::api::status::FieldError;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const PORT: &str = "must be between 1 and 65535, inclusive";

fn items(list: &Value) -> impl Iterator<Item = (usize, &Value)> {
    list.as_array().into_iter().flatten().enumerate()
}

fn is_absent(text: &Value) -> bool {
    text.as_str().is_none_or(str::is_empty)
}

fn port_number(value: &Value, at: &str, errors: &mut Vec<FieldError>) {
    if value.as_i64().is_some_and(|port| !(1..=65535).contains(&port)) {
        errors.push(FieldError::invalid(at, value, PORT));
    }
}

/// What is wrong with a `LabelSelector`.
pub(crate) fn selector(selector: &Value, at: &str, errors: &mut Vec<FieldError>) {
    errors.extend(label_errors(
        &format!("{at}.matchLabels"),
        &selector["matchLabels"],
    ));
    for (i, expression) in items(&selector["matchExpressions"]) {
        let at = format!("{at}.matchExpressions[{i}]");
        let no_values = is_empty(&expression["values"]);
        match expression["operator"].as_str() {
            Some("In" | "NotIn") if no_values => errors.push(FieldError::required(
                &format!("{at}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            Some("Exists" | "DoesNotExist") if !no_values => errors.push(FieldError::forbidden(
                &format!("{at}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            Some("In" | "NotIn" | "Exists" | "DoesNotExist") => {}
            _ => errors.push(FieldError::invalid(
                &format!("{at}.operator"),
                &json!(expression["operator"].as_str().unwrap_or("")),
                "not a valid selector operator",
            )),
        }
        for problem in key_problems(expression["key"].as_str().unwrap_or("")) {
            errors.push(FieldError::invalid(
                &format!("{at}.key"),
                &expression["key"],
                &problem,
            ));
        }
    }
}

/// The spec of a NetworkPolicy.
pub(crate) fn policy(spec: &Value, errors: &mut Vec<FieldError>) {
    selector(&spec["podSelector"], "spec.podSelector", errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in items(&spec[direction]) {
            let at = format!("spec.{direction}[{i}]");
            for (i, port) in items(&rule["ports"]) {
                policy_port(port, &format!("{at}.ports[{i}]"), errors);
            }
            for (i, peer) in items(&rule[peers]) {
                policy_peer(peer, &format!("{at}.{peers}[{i}]"), errors);
            }
        }
    }
    let types = &spec["policyTypes"];
    if types.as_array().is_some_and(|types| types.len() > 2) {
        let why = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid("spec.policyTypes", types, why));
        return;
    }
    for (i, kind) in items(types) {
        let at = format!("spec.policyTypes[{i}]");
        one_of(kind, &["Ingress", "Egress"], &at, errors);
    }
}

fn policy_port(port: &Value, at: &str, errors: &mut Vec<FieldError>) {
    one_of(&port["protocol"], &PROTOCOLS, &format!("{at}.protocol"), errors);
    port_number(&port["port"], &format!("{at}.port"), errors);
    let (last, at) = (&port["endPort"], format!("{at}.endPort"));
    let Some(end) = last.as_i64() else { return };
    match port["port"].as_i64() {
        Some(first) if end < first => {
            let why = "must be greater than or equal to `port`";
            errors.push(FieldError::invalid(&at, last, why));
        }
        Some(_) => port_number(last, &at, errors),
        None if port["port"].is_null() => {
            let why = "may not be specified when `port` is not specified";
            errors.push(FieldError::invalid(&at, last, why));
        }
        None => {
            let why = "may not be specified when `port` is non-numeric";
            errors.push(FieldError::invalid(&at, last, why));
        }
    }
}

fn policy_peer(peer: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let mut peers = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if peer[field].is_object() {
            peers += 1;
            selector(&peer[field], &format!("{at}.{field}"), errors);
        }
    }
    let block = &peer["ipBlock"];
    if block.is_object() {
        let at = format!("{at}.ipBlock");
        if is_absent(&block["cidr"]) {
            errors.push(FieldError::required(&format!("{at}.cidr"), ""));
        } else {
            cidr(&block["cidr"], &format!("{at}.cidr"), errors);
        }
        for (i, except) in items(&block["except"]) {
            cidr(except, &format!("{at}.except[{i}]"), errors);
        }
        if peers > 0 {
            let why = "may not specify both ipBlock and another peer";
            errors.push(FieldError::forbidden(&at, why));
        }
    } else if peers == 0 {
        errors.push(FieldError::required(at, "must specify a peer"));
    }
}

fn cidr(value: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let parts = value.as_str().and_then(|text| text.split_once('/'));
    let good = parts.is_some_and(|(address, length)| {
        let most = match address.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(_)) => 32,
            Ok(std::net::IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        length.parse::<u8>().is_ok_and(|length| length <= most)
    });
    if !good {
        let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(FieldError::invalid(at, value, why));
    }
}

/// The spec of an Ingress.
pub(crate) fn ingress(spec: &Value, errors: &mut Vec<FieldError>) {
    if is_empty(&spec["rules"]) && !spec["defaultBackend"].is_object() {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid("spec", spec, why));
    }
    if spec["defaultBackend"].is_object() {
        backend(&spec["defaultBackend"], "spec.defaultBackend", errors);
    }
    for (i, rule) in items(&spec["rules"]) {
        let at = format!("spec.rules[{i}]");
        let host = rule["host"].as_str().unwrap_or("");
        let plain = host.strip_prefix("*.").unwrap_or(host);
        if !host.is_empty() && !is_subdomain(plain) {
            let why = crate::api::names::SUBDOMAIN;
            errors.push(FieldError::invalid(&format!("{at}.host"), &rule["host"], why));
        }
        if rule["http"].is_object() && is_empty(&rule["http"]["paths"]) {
            errors.push(FieldError::required(&format!("{at}.http.paths"), ""));
        }
        for (i, path) in items(&rule["http"]["paths"]) {
            ingress_path(path, &format!("{at}.http.paths[{i}]"), errors);
        }
    }
}

fn ingress_path(path: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let kind = &path["pathType"];
    if is_absent(kind) {
        errors.push(FieldError::required(
            &format!("{at}.pathType"),
            "pathType must be specified",
        ));
    } else {
        let known = ["Exact", "ImplementationSpecific", "Prefix"];
        one_of(kind, &known, &format!("{at}.pathType"), errors);
    }
    let text = path["path"].as_str().unwrap_or("");
    let any = kind == "ImplementationSpecific" && text.is_empty();
    if !any && !text.starts_with('/') {
        let why = "must be an absolute path";
        errors.push(FieldError::invalid(&format!("{at}.path"), &json!(text), why));
    }
    backend(&path["backend"], &format!("{at}.backend"), errors);
}

fn backend(backend: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let service = &backend["service"];
    if !service.is_object() {
        if !backend["resource"].is_object() {
            let why = "either `service` or `resource` is required";
            errors.push(FieldError::required(at, why));
        }
        return;
    }
    if backend["resource"].is_object() {
        let why = "cannot set both resource and service backends";
        errors.push(FieldError::invalid(at, &json!(""), why));
        return;
    }
    if is_absent(&service["name"]) {
        errors.push(FieldError::required(&format!("{at}.service.name"), ""));
    }
    let (name, number) = (&service["port"]["name"], &service["port"]["number"]);
    let has_number = number.as_i64().is_some_and(|number| number != 0);
    match (is_absent(name), has_number) {
        (true, false) => {
            let why = "port name or number is required";
            errors.push(FieldError::required(&format!("{at}.service.port"), why));
        }
        (false, true) => {
            let why = "cannot set both port name & port number";
            errors.push(FieldError::invalid(
                &format!("{at}.service.port"),
                &json!(""),
                why,
            ));
        }
        (true, true) => port_number(number, &format!("{at}.service.port.number"), errors),
        (false, false) => {}
    }
}

/// The spec of an IngressClass.
pub(crate) fn ingress_class(spec: &Value, errors: &mut Vec<FieldError>) {
    let controller = spec["controller"].as_str().unwrap_or("");
    let prefixed = controller
        .split_once('/')
        .is_some_and(|(domain, path)| is_subdomain(domain) && !path.is_empty());
    if !prefixed {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid("spec.controller", &json!(controller), why));
    }
}

/// The spec of a Service.
pub(crate) fn service(spec: &Value, errors: &mut Vec<FieldError>) {
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    one_of(&spec["type"], &kinds, "spec.type", errors);
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let needs_none = spec["clusterIP"] == "None" || spec["type"] == "ExternalName";
    if ports.is_empty() && !needs_none {
        errors.push(FieldError::required("spec.ports", ""));
    }
    let mut names: Vec<&str> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{i}]");
        let name = port["name"].as_str().unwrap_or("");
        if name.is_empty() && ports.len() > 1 {
            errors.push(FieldError::required(&format!("{at}.name"), ""));
        } else if names.contains(&name) {
            errors.push(FieldError::duplicate(&format!("{at}.name"), &json!(name)));
        }
        names.push(name);
        match port["port"].as_i64() {
            Some(number) if (1..=65535).contains(&number) => {}
            number => {
                let shown = json!(number.unwrap_or(0));
                errors.push(FieldError::invalid(&format!("{at}.port"), &shown, PORT));
            }
        }
        one_of(&port["protocol"], &PROTOCOLS, &format!("{at}.protocol"), errors);
        port_number(&port["targetPort"], &format!("{at}.targetPort"), errors);
    }
    let key = |port: &Value| {
        (
            port["port"].clone(),
            port["protocol"].as_str().unwrap_or("TCP").to_owned(),
        )
    };
    for (i, port) in ports.iter().enumerate() {
        if ports[..i].iter().any(|earlier| key(earlier) == key(port)) {
            let shown = json!({"port": port["port"], "protocol": key(port).1});
            errors.push(FieldError::duplicate(&format!("spec.ports[{i}]"), &shown));
        }
    }
}
