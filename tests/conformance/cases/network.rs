//! Services, what lets traffic through, and autoscalers, as the API server takes them.

use serde_json::{Value, json};

use super::super::case_context::CaseContext;

super::cases!(
    a_service_is_checked,
    a_network_policy_is_checked,
    an_ingress_is_checked,
    an_ingress_class_names_a_controller,
    an_autoscaler_is_checked,
    modes_of_files_are_checked,
    amounts_have_one_form,
    ports_of_one_number_are_told_apart_by_their_protocol,
);

fn named(version: &str, kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

async fn a_service_is_checked(lab: &CaseContext) {
    let service = |name: &str, spec: Value| named("v1", "Service", name, &spec);
    let selector = json!({"app": "a"});
    for (spec, words) in [
        (json!({"selector": selector}), "spec.ports: Required value"),
        (
            json!({"selector": selector, "ports": [{"port": 0}]}),
            "spec.ports[0].port",
        ),
        (
            json!({"selector": selector, "ports": [{"port": 53}, {"port": 54}]}),
            "spec.ports[0].name: Required value",
        ),
        (
            json!({"selector": selector, "ports": [{"port": 53, "protocol": "QUIC"}]}),
            "spec.ports[0].protocol",
        ),
        (
            json!({"selector": selector, "type": "Cluster", "ports": [{"port": 53}]}),
            "spec.type",
        ),
    ] {
        lab.quietly()
            .post("svc", service("bad", spec))
            .await
            .invalid(words);
    }
}

async fn a_network_policy_is_checked(lab: &CaseContext) {
    for (spec, words) in [
        (
            json!({"podSelector": {}, "policyTypes": ["Ingres"]}),
            "spec.policyTypes[0]: Unsupported value: \"Ingres\": supported values: \"Ingress\", \"Egress\"",
        ),
        (
            json!({"podSelector": {}, "ingress": [{"from": [{}]}]}),
            "spec.ingress[0].from[0]: Required value: must specify a peer",
        ),
        (
            json!({"podSelector": {}, "egress": [{"ports": [{"port": 70000}]}]}),
            "spec.egress[0].ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0"}}]}]}),
            "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.0\"",
        ),
        (
            json!({"podSelector": {}, "ingress": [{"ports": [{"endPort": 5}]}]}),
            "endPort",
        ),
    ] {
        let body = named("networking.k8s.io/v1", "NetworkPolicy", "bad", &spec);
        lab.quietly().post("netpol", body).await.invalid(words);
    }
}

async fn an_ingress_is_checked(lab: &CaseContext) {
    let path = |path: Value| json!({"rules": [{"http": {"paths": [path]}}]});
    let backend = json!({"service": {"name": "a", "port": {"number": 80}}});
    for (spec, words) in [
        (json!({}), "either `defaultBackend` or `rules` must be specified"),
        (
            path(json!({"path": "/", "pathType": "Prefx", "backend": backend})),
            "pathType: Unsupported value: \"Prefx\"",
        ),
        (
            path(json!({"path": "a", "pathType": "Prefix", "backend": backend})),
            "must be an absolute path",
        ),
        (
            path(json!({"path": "/", "pathType": "Exact", "backend": {"service": {"name": "a"}}})),
            "port name or number is required",
        ),
    ] {
        let body = named("networking.k8s.io/v1", "Ingress", "bad", &spec);
        lab.quietly().post("ingress", body).await.invalid(words);
    }
}

async fn an_ingress_class_names_a_controller(lab: &CaseContext) {
    let body = named(
        "networking.k8s.io/v1",
        "IngressClass",
        "bad",
        &json!({"controller": "edge"}),
    );
    lab.quietly()
        .post("ingressclass", body)
        .await
        .invalid("must be a domain-prefixed path");
}

async fn an_autoscaler_is_checked(lab: &CaseContext) {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    for (spec, words) in [
        (
            json!({"scaleTargetRef": target, "maxReplicas": 0}),
            "spec.maxReplicas: Invalid value: 0: must be greater than 0",
        ),
        (
            json!({"scaleTargetRef": target, "maxReplicas": 2, "minReplicas": 3}),
            "must be greater than or equal to `minReplicas`",
        ),
        (
            json!({"scaleTargetRef": {"kind": "Deployment", "name": ""}, "maxReplicas": 2}),
            "spec.scaleTargetRef.name: Required value",
        ),
    ] {
        let body = named("autoscaling/v2", "HorizontalPodAutoscaler", "bad", &spec);
        lab.quietly().post("hpa", body).await.invalid(words);
    }
}

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "a", "image": "a:1"}]},
            },
        },
    })
}

async fn modes_of_files_are_checked(lab: &CaseContext) {
    let mut body = deployment("bad");
    body["spec"]["template"]["spec"]["volumes"] = json!([
        {"name": "a", "configMap": {"name": "c", "defaultMode": 512}},
        {"name": "b", "secret": {"secretName": "s", "items": [{"key": "k", "path": "k", "mode": 1000}]}},
    ]);
    lab.quietly()
        .post("deploy", body)
        .await
        .invalid("volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive")
        .invalid("volumes[1].secret.items[0].mode: Invalid value: 1000");
}

async fn amounts_have_one_form(lab: &CaseContext) {
    let mut body = deployment("bad");
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "2GiB"}});
    lab.quietly().post("deploy", body).await.refused(
        400,
        "BadRequest",
        "quantities must match the regular expression",
    );
}

async fn ports_of_one_number_are_told_apart_by_their_protocol(lab: &CaseContext) {
    let mut body = deployment("dns");
    body["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([
        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
    ]);
    for image in ["a:1", "a:2"] {
        body["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        let applied = lab.apply("deploy/dns?fieldManager=me", body.clone()).await;
        applied
            .has("/spec/template/spec/containers/0/ports/0/protocol", "UDP")
            .has("/spec/template/spec/containers/0/ports/1/protocol", "TCP");
    }
}
