//! Planning refuses the label selectors that the API server refuses, and no other.

use kubernaut_machines::label_selector::problem;

use crate::bed::api_server;

const SELECTORS: [&str; 66] = [
    "app=web",
    "app==web",
    "app!=web",
    "app = web",
    " app=web ",
    "app",
    "!app",
    "! app",
    "app=",
    "app!=",
    "app in (web)",
    "app in (web,api)",
    "app in(web)",
    "app in ( web , api )",
    "app in (web,)",
    "app in (,)",
    "app notin (web)",
    "app notin(web),tier=db",
    "in=in",
    "in in (in)",
    "notin",
    "size>5",
    "size<10",
    "size>5,size<10",
    "size > -5",
    "kubernetes.io/os=linux",
    "a.b/c in (d)",
    "app=web,tier=db,!legacy",
    "app=web,app=api",
    "app=1",
    "app=a_b.c-d",
    "=web",
    "==web",
    "!=web",
    "app web",
    "app in web",
    "app in",
    "app in ()",
    "app in (web",
    "app in web)",
    "app in (web api)",
    "app notin web",
    "a notin b",
    "app=web=x",
    "a==b=c",
    "app===web",
    "app=!web",
    "app=web tier=db",
    "app=web,",
    ",app=web",
    "app,,tier",
    "app=web-",
    "app=-web",
    "app=we b",
    "app=wéb",
    "Äpp=web",
    "a/b/c=d",
    "/c=d",
    "a/=d",
    "-app=web",
    "app-=web",
    "size>big",
    "size>",
    "size>5.5",
    "(app=web)",
    "!app=web",
];

#[tokio::test]
async fn planning_and_the_api_server_take_the_same_selectors() {
    let client = api_server().await.admin_client().await.expect("a client");
    let long = |count: usize| format!("app={}", "a".repeat(count));
    let selectors = SELECTORS.map(str::to_owned).into_iter();
    let selectors = selectors.chain([long(63), long(64), format!("{}/a=b", "a".repeat(254))]);
    let (mut taken, mut refused, mut wrong) = (0, 0, Vec::new());
    for selector in selectors {
        let query: String = form_urlencoded(&selector);
        let request = http::Request::get(format!(
            "/api/v1/namespaces/default/pods?limit=1&labelSelector={query}"
        ));
        let request = request.body(Vec::new()).expect("a request");
        let is_taken = match client.request_text(request).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 400 => false,
            Err(error) => panic!("{selector:?}: {error}"),
        };
        match problem(&selector) {
            None if is_taken => taken += 1,
            Some(_) if !is_taken => refused += 1,
            ours => wrong.push(format!(
                "{selector:?}: the API server takes it: {is_taken}; we say {ours:?}"
            )),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(taken > 20 && refused > 20, "{taken} taken, {refused} refused");
}

/// Each byte as a query can hold it.
fn form_urlencoded(text: &str) -> String {
    let bytes: Vec<String> = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    bytes.concat()
}
