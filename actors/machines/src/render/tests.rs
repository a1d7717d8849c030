//! The Job of each action, and what of it is hashed.

use kubernaut_crds::{Action, ActionParameters, KubernetesExecution, MicroTime};

use super::*;
use crate::actions::{ActionKind, kind_of, target_of};
use crate::manifest_kinds::parse_manifest;

fn rendered(parameters: &Value, attempt: impl FnOnce(&mut Attempt)) -> Rendered {
    rendered_by(&Settings::default(), "any", parameters, attempt)
}

fn rendered_by(
    settings: &Settings,
    action: &str,
    parameters: &Value,
    attempt: impl FnOnce(&mut Attempt),
) -> Rendered {
    let execution: KubernetesExecution = serde_json::from_value(json!({
        "apiVersion": "kubernetesexecution.kubernaut.io/v1", "kind": "KubernetesExecution",
        "metadata": {"name": "fix-step-1", "namespace": "shop", "uid": "uid-1",
                     "labels": {"kubernaut.io/workflow": "fix"},
                     "annotations": {"kubernaut.io/correlation-id": "alert-7"}},
        "spec": {"action": action, "parameters": parameters}
    }))
    .expect("an execution");
    let start = Timestamp::from_second(1_800_000_000).expect("a time");
    let mut record = Attempt {
        attempt: 1,
        job_name: job_name("fix-step-1", "uid-1", 1),
        job_hash: String::new(),
        target_generation: None,
        start_time: MicroTime(start),
        deadline: MicroTime(start + jiff::SignedDuration::from_millis(59_500)),
        pods: Vec::new(),
        restarted_at: None,
        init_containers: Vec::new(),
        end_time: None,
        outcome: None,
        error_type: None,
        retry: None,
        message: None,
    };
    attempt(&mut record);
    let action = Action::try_from(execution.spec.parameters.clone()).expect("one member");
    let checked = checked(action, &execution.spec.action);
    render(&execution, &checked, &record, settings).expect("a Job")
}

fn checked(action: Action, spelling: &str) -> ValidatedExecution {
    let manifest = if let Action::ApplyManifest(apply) = &action {
        Some(parse_manifest(&apply.manifest).expect("a manifest"))
    } else {
        None
    };
    let kind = kind_of(&action).expect("a kind");
    ValidatedExecution {
        target: target_of(&action, manifest.as_ref()),
        rights: Vec::new(),
        optional_right: None,
        kind,
        variant: kind.variant(spelling),
        action,
        timeout: std::time::Duration::ZERO,
        warnings: Vec::new(),
        manifest,
    }
}

/// The account, the arguments of the last container, and the payloads by annotation.
fn essence(parameters: &Value) -> (String, Vec<String>, Vec<String>) {
    let pods = vec![
        kubernaut_crds::PodRef {
            name: "web-1".into(),
            uid: "u1".into(),
            controller: None,
        },
        kubernaut_crds::PodRef {
            name: "web-2".into(),
            uid: "u2".into(),
            controller: None,
        },
    ];
    let rendered = rendered(parameters, |attempt| attempt.pods = pods);
    let template = rendered.job.spec.expect("a spec").template;
    let pod = template.spec.expect("a pod");
    let annotations = template
        .metadata
        .and_then(|metadata| metadata.annotations)
        .unwrap_or_default();
    let payloads = annotations
        .into_iter()
        .filter(|(key, _)| key.starts_with(names::ANNOTATION_PAYLOAD));
    let arguments = pod.containers[0].args.clone().expect("arguments");
    (
        pod.service_account_name.expect("an account"),
        arguments,
        payloads.map(|(_, payload)| payload).collect(),
    )
}

#[test]
fn each_action_has_the_accounts_and_arguments_of_the_table() {
    let cases = [
        (
            json!({"scaleDeployment": {"namespace": "a", "deployment": "b", "replicas": 3}}),
            "scale-deployment-sa",
            "scale deployment/b --namespace=a --replicas=3",
        ),
        (
            json!({"scaleStatefulSet": {"namespace": "a", "name": "b", "replicas": 3}}),
            "scale-stateful-set-sa",
            "scale statefulset/b --namespace=a --replicas=3",
        ),
        (
            json!({"deletePod": {"namespace": "a", "pod": "web-1", "gracePeriodSeconds": 5}}),
            "delete-pod-sa",
            "delete --raw=/api/v1/namespaces/a/pods/web-1 --filename=/payload/options.json",
        ),
        (
            json!({"deletePod": {"namespace": "a", "labelSelector": "app=web"}}),
            "delete-pod-sa",
            "create --raw=/api/v1/namespaces/a/pods/web-2/eviction --filename=/payload/eviction-1.json",
        ),
        (
            json!({"patchDeployment": {"namespace": "a", "deployment": "b", "patchType": "merge", "patch": "{}"}}),
            "patch-deployment-sa",
            "patch deployment/b --namespace=a --type=merge --field-manager=kubernaut --patch-file=/payload/patch.json",
        ),
        (json!({"cordonNode": {"node": "n"}}), "cordon-node-sa", "cordon n"),
        (
            json!({"uncordonNode": {"node": "n"}}),
            "uncordon-node-sa",
            "uncordon n",
        ),
        (
            json!({"drainNode": {"node": "n", "gracePeriodSeconds": 30, "ignoreDaemonSets": true}}),
            "drain-node-sa",
            "drain n --grace-period=30 --ignore-daemonsets=true --delete-emptydir-data=false --force=false \
             --timeout=44s --pod-selector=!kubernaut.io/execution-uid",
        ),
        (
            json!({"updateConfigMap": {"namespace": "a", "configMap": "b", "data": {"k": "v"}}}),
            "update-configmap-sa",
            "patch configmap/b --namespace=a --type=merge --field-manager=kubernaut --patch-file=/payload/patch.json",
        ),
        (
            json!({"updateSecret": {"namespace": "a", "secret": "b", "data": {"k": "dg=="}}}),
            "update-secret-sa",
            "patch secret/b --namespace=a --type=merge --field-manager=kubernaut --patch-file=/payload/patch.json",
        ),
        (
            json!({"applyManifest": {"manifest": "{apiVersion: v1, kind: X, metadata: {name: x, namespace: a}}"}}),
            "apply-manifest-sa",
            "apply --server-side --field-manager=kubernaut --filename=/payload/manifest.yaml",
        ),
    ];
    let kinds = cases.iter().filter_map(|(parameters, ..)| {
        let parameters = serde_json::from_value::<ActionParameters>(parameters.clone()).expect("parameters");
        kind_of(&Action::try_from(parameters).ok()?)
    });
    // A restart writes when it began: it has a test of its own.
    let spellings: Vec<&str> = kinds
        .map(ActionKind::canonical)
        .chain(["rollout-restart"])
        .collect();
    assert_eq!(ActionKind::lacking(&spellings), [""; 0]);
    for (parameters, account, arguments) in cases {
        let (found, argv, _) = essence(&parameters);
        // 59.5 s are left: a drain gives up 15 s before the Job controller would delete its pod and its message.
        assert_eq!((found.as_str(), argv.join(" ").as_str()), (account, arguments));
    }
}

#[test]
fn a_restart_writes_who_restarted_and_when() {
    let parameters = json!({"rolloutRestart": {"namespace": "a", "deployment": "b"}});
    let rendered = rendered(&parameters, |attempt| {
        attempt.restarted_at = Some("2026-01-01T00:00:00Z".into());
    });
    let job = serde_json::to_string(&rendered.job).expect("JSON");
    assert!(
        job.contains(r#"\"kubernaut.io/restarted-by\":\"uid-1\""#),
        "{job}"
    );
    assert!(
        job.contains(r#"\"kubectl.kubernetes.io/restartedAt\":\"2026-01-01T00:00:00Z\""#),
        "{job}"
    );
}

#[test]
fn pods_are_deleted_by_uid_so_that_a_replacement_of_the_same_name_is_never_hit() {
    let (_, _, payloads) = essence(&json!({"deletePod": {"namespace": "a", "labelSelector": "app=web"}}));
    assert!(
        payloads.len() == 2 && payloads[0].contains(r#""uid":"u1""#) && payloads[1].contains(r#""uid":"u2""#)
    );
    let (_, _, payloads) = essence(&json!({"deletePod": {"namespace": "a", "pod": "web-1"}}));
    assert!(
        payloads.len() == 1 && payloads[0].contains(r#""preconditions":{"uid":"u1"}"#),
        "{payloads:?}"
    );
}

#[test]
fn a_json_patch_first_tests_the_generation_that_was_read() {
    let parameters =
        json!({"patchDeployment": {"namespace": "a", "deployment": "b", "patchType": "json", "patch": "[]"}});
    let rendered = rendered(&parameters, |attempt| attempt.target_generation = Some(7));
    let job = serde_json::to_string(&rendered.job).expect("JSON");
    assert!(
        job.contains(r#"\"path\":\"/metadata/generation\""#) && job.contains(r#"\"value\":7"#),
        "{job}"
    );
}

#[test]
fn a_manifest_is_sent_as_it_was_read_and_not_as_it_was_written() {
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: a}\ndata: {k: v} # words\n<<: {immutable: true}\n";
    let (_, _, payloads) = essence(&json!({"applyManifest": {"manifest": manifest}}));
    let sent: Value = serde_json::from_str(&payloads[0]).expect("JSON");
    assert_eq!(
        sent,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "a"},
               "data": {"k": "v"}, "immutable": true})
    );
}

#[test]
fn values_of_a_secret_stand_in_a_secret_alone() {
    let parameters =
        json!({"updateSecret": {"namespace": "a", "secret": "b", "data": {"k": "aHVudGVyMg=="}}});
    let rendered = rendered(&parameters, |_| {});
    assert!(
        !serde_json::to_string(&rendered.job)
            .expect("JSON")
            .contains("aHVudGVyMg")
    );
    let secret = rendered.secret.expect("a Secret");
    assert_eq!(secret.metadata.name, rendered.job.metadata.name);
    assert_eq!(secret.metadata.labels, rendered.job.metadata.labels);
}

/// The pod of a Job, as the API server gets it.
fn pod_of(rendered: Rendered) -> Value {
    let job = serde_json::to_value(rendered.job).expect("JSON");
    job["spec"]["template"]["spec"].clone()
}

#[test]
fn every_container_has_a_token_of_ten_minutes_where_kubectl_looks_for_it_and_no_other() {
    let pods = vec![
        kubernaut_crds::PodRef {
            name: "web-1".into(),
            uid: "u1".into(),
            controller: None,
        };
        2
    ];
    let parameters = json!({"deletePod": {"namespace": "a", "labelSelector": "app=web"}});
    let pod = pod_of(rendered(&parameters, |attempt| attempt.pods = pods));
    assert_eq!(pod["automountServiceAccountToken"], false);
    let volumes = pod["volumes"].as_array().expect("volumes");
    let access = volumes
        .iter()
        .find(|volume| volume["name"] == "access")
        .expect("the volume");
    let sources = &access["projected"]["sources"];
    assert_eq!(
        sources[0],
        json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 600}})
    );
    assert_eq!(sources[1]["configMap"]["name"], "kube-root-ca.crt");
    assert_eq!(sources[2]["downwardAPI"]["items"][0]["path"], "namespace");
    let containers = ["initContainers", "containers"].map(|list| pod[list].as_array().expect("containers"));
    assert_eq!(containers.map(Vec::len), [1, 1]);
    for container in containers.into_iter().flatten() {
        let mounts = container["volumeMounts"].as_array().expect("mounts");
        let mount = mounts
            .iter()
            .find(|mount| mount["name"] == "access")
            .expect("the mount");
        assert_eq!(
            mount["mountPath"],
            "/var/run/secrets/kubernetes.io/serviceaccount"
        );
        assert_eq!(mount["readOnly"], true);
    }
}

#[test]
fn kubectl_has_no_disk_to_write_to_and_prints_within_bounds() {
    for parameters in [
        json!({"cordonNode": {"node": "n"}}),
        json!({"updateConfigMap": {"namespace": "shop", "configMap": "c", "data": {"k": "v"}}}),
    ] {
        let pod = pod_of(rendered(&parameters, |_| {}));
        let volumes = pod["volumes"].as_array().expect("volumes");
        let read_only = |volume: &Value| volume["projected"].is_object() || volume["downwardAPI"].is_object();
        assert!(volumes.iter().all(read_only), "{volumes:?}");
        let container = &pod["containers"][0];
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        let mounts = container["volumeMounts"].as_array().expect("mounts");
        assert!(mounts.iter().all(|mount| mount["readOnly"] == true), "{mounts:?}");
        assert_eq!(container["resources"]["limits"]["ephemeral-storage"], "128Mi");
        assert_eq!(container["resources"]["requests"]["ephemeral-storage"], "0");
    }
}

#[test]
fn jobs_run_on_the_nodes_that_the_flags_name() {
    let settings = Settings {
        executor_node_selector: [("pool".to_owned(), "repairs".to_owned())].into(),
        executor_tolerations: vec![Toleration::parse("pool=repairs:NoSchedule").expect("a taint")],
        ..Settings::default()
    };
    let taint = json!({"key": "pool", "operator": "Equal", "value": "repairs", "effect": "NoSchedule"});
    let cordoned =
        json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"});
    let scale = json!({"scaleDeployment": {"namespace": "a", "deployment": "b", "replicas": 3}});
    let cordon = json!({"cordonNode": {"node": "n"}});
    for (parameters, tolerations) in [(&scale, json!([taint])), (&cordon, json!([taint, cordoned]))] {
        let pod = pod_of(rendered_by(&settings, "any", parameters, |_| {}));
        assert_eq!(pod["nodeSelector"], json!({"pool": "repairs"}));
        assert_eq!(pod["tolerations"], tolerations);
    }
    let pod = pod_of(rendered(&scale, |_| {}));
    assert_eq!(
        (&pod["nodeSelector"], &pod["tolerations"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn the_hash_is_that_of_the_record_and_of_nothing_else() {
    let parameters = json!({"cordonNode": {"node": "n"}});
    let first = rendered(&parameters, |_| {});
    assert_eq!(
        first,
        rendered(&parameters, |attempt| attempt.job_hash = first.hash.clone())
    );
    let other = rendered(&parameters, |attempt| attempt.attempt = 2);
    assert_ne!(first.hash, other.hash);
    let annotations = first.job.metadata.annotations.expect("annotations");
    assert_eq!(annotations[names::ANNOTATION_JOB_HASH], first.hash);
}

#[test]
fn a_payload_that_can_not_travel_is_refused() {
    let execution = KubernetesExecution::new(
        "x",
        serde_json::from_value(json!({
        "action": "apply-manifest", "parameters": {"cordonNode": {"node": "n"}}}))
        .expect("a spec"),
    );
    let bare = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "a"}, "data": {"k": ""}});
    let fill = PAYLOAD_MAX + 1 - bare.to_string().len();
    let manifest = bare
        .to_string()
        .replace(r#""k":"""#, &format!(r#""k":"{}""#, "x".repeat(fill)));
    let action = Action::ApplyManifest(kubernaut_crds::ApplyManifest { manifest });
    let start = MicroTime(Timestamp::UNIX_EPOCH);
    let record = serde_json::from_value(json!({"attempt": 1, "jobName": "j", "jobHash": "",
        "startTime": start, "deadline": start}))
    .expect("an attempt");
    let refused = render(
        &execution,
        &checked(action, &execution.spec.action),
        &record,
        &Settings::default(),
    );
    assert_eq!(refused, Err(RenderError::PayloadTooLarge(PAYLOAD_MAX + 1)));
}

proptest::proptest! {
    #[test]
    fn any_name_makes_a_valid_name_of_a_job(name in "[a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?", attempt in 0..20_i32) {
        let job = job_name(&name, "uid", attempt);
        proptest::prop_assert!(job.len() <= 63, "{job}");
        proptest::prop_assert!(job.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        proptest::prop_assert!(!job.starts_with('-') && !job.ends_with('-'));
    }
}

#[test]
fn an_image_goes_to_the_list_where_its_container_was_found() {
    let text = r#"{"spec": {"template": {"spec": {"containers": [{"name": "proxy", "image": "proxy:2"}]}}}}"#;
    let parameters = json!({"patchDeployment": {"namespace": "shop", "deployment": "web", "patchType": "strategic",
                                                "patch": text}});
    let sent = |action: &str, init: &[&str]| {
        let rendered = rendered_by(&Settings::default(), action, &parameters, |attempt| {
            attempt.init_containers = init.iter().map(ToString::to_string).collect();
        });
        let template = rendered.job.spec.expect("a spec").template;
        let annotations = template.metadata.and_then(|metadata| metadata.annotations);
        annotations.expect("annotations")[names::ANNOTATION_PAYLOAD].clone()
    };
    let image = r#"[{"image":"proxy:2","name":"proxy"}]"#;
    let at = |list: &str| format!(r#"{{"spec":{{"template":{{"spec":{{"{list}":{image}}}}}}}}}"#);
    assert_eq!(sent("update-image", &[]), at("containers"));
    assert_eq!(sent("update-image", &["proxy"]), at("initContainers"));
    // Any other patch is sent as it was written.
    assert_eq!(sent("patch-deployment", &[]), text);
}

#[test]
fn the_hash_says_nothing_of_what_a_secret_holds() {
    let hash = |value: &str| {
        let parameters =
            json!({"updateSecret": {"namespace": "shop", "secret": "db", "data": {"password": value}}});
        rendered(&parameters, |_| {}).hash
    };
    assert_eq!(hash("aHVudGVyMg=="), hash("c3dvcmRmaXNo"));
}

#[test]
fn each_action_has_a_form_that_changes_nothing() {
    let pod = |name: &str| kubernaut_crds::PodRef {
        name: name.into(),
        uid: format!("uid-of-{name}"),
        controller: None,
    };
    let undo = json!({"undo": {"of": "scale-deployment", "target": {
        "apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web"}}});
    let with = |field: &str, value: Value| {
        let mut undo = undo.clone();
        undo["undo"][field] = value;
        undo
    };
    let samples = ActionKind::ALL.into_iter().flat_map(ActionKind::samples);
    let undoes = [with("patch", json!("[]")), with("delete", json!(true))];
    for parameters in samples.map(|(_, parameters)| parameters).chain(undoes) {
        let job = |number: i32| {
            let rendered = rendered(&parameters, |attempt| {
                attempt.attempt = number;
                attempt.pods = vec![pod("web-1"), pod("web-2")];
            });
            let template = rendered.job.spec.expect("a spec").template;
            let annotations = template.metadata.and_then(|metadata| metadata.annotations);
            let pod = template.spec.expect("a pod");
            let containers = pod.init_containers.into_iter().flatten().chain(pod.containers);
            let arguments: Vec<Vec<String>> = containers.filter_map(|container| container.args).collect();
            (arguments, annotations.unwrap_or_default())
        };
        let (arguments, annotations) = job(0);
        let is_raw = |arguments: &[String]| arguments.iter().any(|word| word.starts_with("--raw="));
        let files = annotations.iter();
        let files = files.filter(|(key, _)| key.starts_with(names::ANNOTATION_PAYLOAD));
        let bodies: Vec<Value> = files
            .filter_map(|(_, text)| serde_json::from_str(text).ok())
            .collect();
        for arguments in &arguments {
            let has_flag = arguments.iter().any(|word| word == "--dry-run=server");
            assert_ne!(has_flag, is_raw(arguments), "{arguments:?}");
        }
        for raw in arguments
            .iter()
            .flatten()
            .filter(|word| word.starts_with("--raw="))
        {
            assert!(raw.ends_with("?dryRun=All"), "{raw}");
        }
        if arguments.iter().any(|arguments| is_raw(arguments)) {
            assert_eq!(bodies.len(), arguments.len());
            let all = json!(["All"]);
            assert!(
                bodies
                    .iter()
                    .all(|body| body["dryRun"] == all || body["deleteOptions"]["dryRun"] == all),
                "{bodies:?}"
            );
        }
        let (arguments, annotations) = job(1);
        let real = format!("{arguments:?} {annotations:?}");
        assert!(!real.contains("dry-run") && !real.contains("dryRun"), "{real}");
    }
}

#[test]
fn a_call_that_would_change_something_is_no_dry_run() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let delete = words(&[
        "delete",
        "--raw=/x?dryRun=All",
        "--filename=/payload/o.json",
        "--dry-run=server",
    ]);
    let with = |content: Value| Call::of(delete.clone()).with_file("o.json", content.to_string());
    assert_eq!(
        with(json!({})).changing(),
        Some("delete"),
        "the flag is ignored with --raw"
    );
    assert_eq!(with(json!({"dryRun": ["All"]})).changing(), None);
    let eviction =
        |options: Value| with(json!({"kind": "Eviction", "deleteOptions": options, "dryRun": ["All"]}));
    assert_eq!(eviction(json!({})).changing(), Some("delete"));
    assert_eq!(eviction(json!({"dryRun": ["All"]})).changing(), None);
    assert_eq!(
        Call::of(delete.clone()).changing(),
        Some("delete"),
        "without its file"
    );
    let without_query = Call::of(words(&["delete", "--raw=/x", "--filename=/payload/o.json"]));
    let options = json!({"dryRun": ["All"]}).to_string();
    assert_eq!(
        without_query.with_file("o.json", options).changing(),
        Some("delete"),
        "a webhook would take it for a real one"
    );
    let cordon = Call::of(words(&["cordon", "n1"]));
    assert_eq!(cordon.clone().changing(), Some("cordon"));
    assert_eq!(cordon.clone().dry(false).changing(), Some("cordon"));
    assert_eq!(cordon.dry(true).changing(), None);
}
