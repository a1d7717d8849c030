//! Watches of the embedded cluster.

use std::{pin::pin, time::Duration};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams, WatchEvent, WatchParams},
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde_json::json;

use crate::support::{cluster, config_map, config_maps};

fn short(event: WatchEvent<ConfigMap>) -> String {
    match event {
        WatchEvent::Added(o) => format!("+{}", o.name_any()),
        WatchEvent::Modified(o) => format!("~{}", o.name_any()),
        WatchEvent::Deleted(o) => format!("-{}", o.name_any()),
        WatchEvent::Bookmark(_) => "bookmark".to_owned(),
        WatchEvent::Error(e) => format!("error {}", e.code),
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_at_its_time_out_and_gets_bookmarks_before() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    let params = WatchParams::default().timeout(150);
    let events = api.watch(&params, "0").await.unwrap();
    let seen: Vec<String> = events.map_ok(short).try_collect().await.unwrap();
    assert_eq!(seen, ["bookmark", "bookmark"]);
}

#[tokio::test(start_paused = true)]
async fn the_watcher_of_kube_recovers_from_broken_watches_and_compaction() {
    let (cluster, client) = cluster();
    let api = config_maps(&client);
    let (reader, writer) = reflector::store();
    let stream = watcher(api.clone(), watcher::Config::default())
        .default_backoff()
        .reflect(writer);
    let task = tokio::spawn(stream.for_each(|_| async {}));
    reader.wait_until_ready().await.unwrap();
    api.create(&PostParams::default(), &config_map("a", json!({})))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(reader.state().len(), 1);
    cluster.drop_watches();
    api.create(&PostParams::default(), &config_map("b", json!({})))
        .await
        .unwrap();
    cluster.compact();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(reader.state().len(), 2);
    api.delete("a", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(reader.state().len(), 1);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_ends_with_its_bookmark() {
    let (_cluster, client) = cluster();
    let api = config_maps(&client);
    api.create(&PostParams::default(), &config_map("a", json!({})))
        .await
        .unwrap();
    let config = watcher::Config::default().streaming_lists();
    let mut stream = pin!(watcher(api, config));
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(match stream.try_next().await.unwrap().unwrap() {
            watcher::Event::Init => "init",
            watcher::Event::InitApply(_) => "apply",
            watcher::Event::InitDone => "done",
            watcher::Event::Apply(_) | watcher::Event::Delete(_) => "later",
        });
    }
    assert_eq!(seen, ["init", "apply", "done"]);
}
