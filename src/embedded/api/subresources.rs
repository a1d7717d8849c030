//! The scale of a workload, and the binding of a pod.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use crate::api::body::{apply_patch, check_url, parse};
use crate::api::kinds::Kind;
use crate::api::options;
use crate::api::request::ApiRequest;
use crate::api::state::State;
use crate::api::status::ApiError;
use crate::api::verbs::{Outcome, Reply, write_options};
use crate::api::write::Part;

impl State {
    pub(crate) fn scale(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
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
                options::check_write(request, false)?;
                let media = request.content_type.split(';').next().unwrap_or("").trim();
                apply_patch(kind, media, &shown, &request.body)?
            }
        };
        let asked = &wanted["spec"]["replicas"];
        if !asked.is_null() && !asked.is_i64() {
            let why = "json: cannot unmarshal into Go struct field ScaleSpec.spec.replicas of type int32";
            return Err(ApiError::bad_patch(&wanted, why));
        }
        let replicas = asked.as_i64().unwrap_or(0);
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
                &[crate::api::FieldError::invalid(
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
            &write_options(request),
        )?;
        Ok(Reply::Object(200, Arc::new(scale_of(&object))))
    }

    pub(crate) fn bind(&mut self, kind: &Arc<Kind>, request: &ApiRequest) -> Outcome {
        let binding = parse(&request.body)?;
        let current = self.current(kind, request)?;
        if current["spec"]["nodeName"]
            .as_str()
            .is_some_and(|n| !n.is_empty())
        {
            return Err(ApiError::bound(&request.info.name, &current["spec"]["nodeName"]));
        }
        let mut pod = Value::clone(&current);
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        self.update(
            kind,
            &Self::key(kind, request),
            Part::Main,
            pod,
            &write_options(request),
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
    // Its type leaves out what is nothing.
    let spec = match object["spec"]["replicas"].as_i64().unwrap_or(0) {
        0 => json!({}),
        replicas => json!({"replicas": replicas}),
    };
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": spec,
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": selector.join(","),
        },
    })
}
