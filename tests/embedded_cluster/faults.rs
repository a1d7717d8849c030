//! Requests that the embedded cluster lets fail where it is told to.

use std::{sync::Arc, time::Duration};

use embedded_cluster::Fault;
use kube::api::PostParams;
use serde_json::json;

use crate::support::{cluster, config_map, config_maps, status};

#[tokio::test(start_paused = true)]
async fn a_refused_request_does_nothing_and_one_refused_later_has_been_done() {
    let (cluster, client) = cluster();
    let api = config_maps(&client);
    cluster.fault(Arc::new(|r| (r.verb == "create").then(|| Fault::refused(503))));
    let refused = status(
        api.create(&PostParams::default(), &config_map("a", json!({})))
            .await,
    );
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (503, "ServiceUnavailable")
    );
    assert!(api.get_opt("a").await.unwrap().is_none());
    cluster.fault(Arc::new(|r| {
        (r.verb == "create").then(|| Fault::after_commit(504))
    }));
    assert_eq!(
        status(
            api.create(&PostParams::default(), &config_map("a", json!({})))
                .await
        )
        .code,
        504
    );
    assert!(api.get_opt("a").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_connection_can_break_and_an_answer_be_late() {
    let (cluster, client) = cluster();
    let api = config_maps(&client);
    cluster.fault(Arc::new(|r| (r.verb == "create").then(|| Fault::dropped(true))));
    let error = api
        .create(&PostParams::default(), &config_map("a", json!({})))
        .await
        .unwrap_err();
    assert!(!matches!(error, kube::Error::Api(_)), "{error}");
    assert!(api.get_opt("a").await.unwrap().is_some());
    cluster.fault(Arc::new(|r| {
        (r.verb == "get").then(|| Fault::delayed(Duration::from_secs(7)))
    }));
    let start = tokio::time::Instant::now();
    api.get("a").await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn every_request_is_remembered_with_its_answer() {
    let (cluster, client) = cluster();
    let _ = config_maps(&client).get_opt("a").await.unwrap();
    let log = cluster.requests();
    let last = log.last().unwrap();
    assert_eq!(
        (
            last.request.verb.as_str(),
            last.request.resource.as_str(),
            last.code
        ),
        ("get", "configmaps", 404)
    );
    assert_eq!(last.request.user.name, "kubernetes-admin");
}
