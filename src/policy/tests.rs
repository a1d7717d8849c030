//! Policies that are wrong, slow or changed, and what becomes of them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kubernaut_actors::ports::PolicyJudge as _;
use kubernaut_machines::policy::Verdict;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Policies, PolicyError, PolicySet};
use crate::http::Readiness;
use crate::telemetry::Telemetry;

const ALLOW_ALL: &str = "package kubernaut.execution\nallow := true\n";

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn set(rego: &str) -> PolicySet {
    let directory = directory(&[("a.rego", &format!("package kubernaut.execution\n{rego}"))]);
    PolicySet::load(directory.path()).unwrap()
}

fn judge(rego: &str, input: &Value) -> Verdict {
    set(rego).judge(input)
}

/// Why a policy that says nothing but this refuses.
fn refusal(rego: &str) -> String {
    let verdict = judge(rego, &json!({}));
    let name = verdict.policy.clone();
    verdict.refusal().unwrap().replace(&name, "NAME")
}

fn error(files: &[(&str, &str)]) -> String {
    let directory = directory(files);
    let Err(error) = PolicySet::load(directory.path()) else {
        panic!("it was taken: {files:?}");
    };
    let error = error.to_string();
    error.replace(&directory.path().display().to_string(), "DIR")
}

#[test]
fn what_the_rules_say_is_the_verdict() {
    let rego = r#"
        default allow := false
        allow if input.action == "scale-deployment"
        violations contains "no" if input.action == "drain-node"
        violations contains "never" if input.action == "drain-node"
        require_approval if input.target.namespace == "production"
        require_dry_run if input.maxRetries > 2
        warnings contains sprintf("%d retries", [input.maxRetries]) if input.maxRetries > 2
    "#;
    let allowed = judge(
        rego,
        &json!({"action": "scale-deployment", "target": {"namespace": "production"}, "maxRetries": 3}),
    );
    assert_eq!(allowed.denied, None);
    assert!(allowed.requires_approval && allowed.requires_dry_run);
    assert_eq!(allowed.warnings, ["3 retries"]);

    let denied = judge(
        rego,
        &json!({"action": "drain-node", "target": {}, "maxRetries": 0}),
    );
    assert_eq!(denied.denied.as_deref(), Some("its rule allow (a.rego) is false"));
    assert_eq!(denied.violations, ["never", "no"]);
    assert!(!denied.requires_approval && !denied.requires_dry_run && denied.warnings.is_empty());
}

#[test]
fn whatever_is_no_clear_yes_is_a_no() {
    for (rego, why) in [
        ("allow := false", "its rule allow (a.rego) is false"),
        ("allow if input.absent", "its rule allow (a.rego) is undefined"),
        (
            "allow := \"yes\"",
            "its rule allow (a.rego) is no boolean but a string",
        ),
        ("allow := 1", "its rule allow (a.rego) is no boolean but a number"),
        ("allow := null", "its rule allow (a.rego) is no boolean but null"),
        (
            "allow contains true",
            "its rule allow (a.rego) is no boolean but a set",
        ),
        (
            "allow := true\nrequire_approval := \"no\"",
            "its rule require_approval (a.rego) is no boolean but a string",
        ),
        (
            "allow := true\nrequire_dry_run := {}",
            "its rule require_dry_run (a.rego) is no boolean but an object",
        ),
        (
            "allow := true\nviolations contains 1",
            "its rule violations (a.rego) is a set with a number in it, where only strings may be",
        ),
        (
            "allow := true\nviolations contains \"bad\"",
            "its rule violations (a.rego) is not empty: bad",
        ),
        (
            "allow := true\nwarnings := true",
            "its rule warnings (a.rego) is no set of strings but a boolean",
        ),
    ] {
        assert_eq!(
            refusal(rego),
            format!("the policy NAME does not allow it: {why}"),
            "{rego}"
        );
    }
}

#[test]
fn a_rule_that_fails_is_told_with_its_place() {
    let why = refusal("allow := x if x := 1 / 0");
    assert!(why.contains("its rule allow (a.rego) failed: a.rego:2:"), "{why}");
    assert!(!why.contains('\n'), "{why}");
    let why = refusal("allow if nobody_declares(1)");
    assert!(why.contains("could not find function nobody_declares"), "{why}");
    // Two values of one rule.
    let why = refusal("allow := true\nallow := false if 1 == 1");
    assert!(why.contains("its rule allow (a.rego) failed: a.rego:"), "{why}");
}

/// No depth ends the process: circles of functions are refused before anything is asked, those of rules by the engine, and the size of
/// the files bounds the rest.
#[test]
fn a_policy_that_calls_itself_is_refused() {
    let of = |rego: &str| format!("package kubernaut.execution\nallow := true\n{rego}");
    for (rego, circle) in [
        (
            "f(x) := f(x + 1)",
            "a.rego:3: a function calls itself: data.kubernaut.execution.f -> data.kubernaut.execution.f",
        ),
        (
            "f(x) := [y | some y in g(x)]\ng(x) if {\n every y in x { not f(y) } }",
            "a.rego:3: a function calls itself",
        ),
        (
            "f(x) := data.kubernaut.execution.f(x)",
            "a.rego:3: a function calls itself",
        ),
        (
            "default f(_) := false\nf(x) if { x > 1; f(x - 1) }",
            "a.rego:3: a function calls itself",
        ),
    ] {
        let told = error(&[("a.rego", &of(rego))]);
        assert!(told.contains(circle), "{told}");
    }
    // Through another package, by whatever name.
    let told = error(&[
        (
            "a.rego",
            "package kubernaut.execution\nimport data.lib.g as other\nallow := true\nf(x) := other(x)",
        ),
        (
            "b.rego",
            "package lib\nimport data.kubernaut.execution\ng(x) := execution.f(x)",
        ),
    ]);
    assert!(
        told.contains("data.kubernaut.execution.f -> data.lib.g -> data.kubernaut.execution.f"),
        "{told}"
    );
    // Names that packages share are no circle.
    let fine = directory(&[
        (
            "a.rego",
            "package kubernaut.execution\nallow if f(2)\nf(x) := data.lib.f(x)",
        ),
        ("b.rego", "package lib\nf(x) if { g(x); g(x + 1) }\ng(x) := x > 1"),
    ]);
    let verdict = PolicySet::load(fine.path()).unwrap().judge(&json!({}));
    assert_eq!(verdict.denied, None);
    let why = refusal("f(x) if allow\nallow if f(1)");
    assert!(why.contains("recursion"), "{why}");
    let nested = format!(
        "package kubernaut.execution\nallow := {}1{}",
        "(\n".repeat(5000),
        ")\n".repeat(5000)
    );
    let told = error(&[("a.rego", &nested)]);
    assert!(told.contains("a.rego:"), "{told}");
    let mut chain = "x0 := 1\n".to_owned();
    for step in 1..3000 {
        let _ = writeln!(chain, "x{step} := x{} + 1", step - 1);
    }
    let denied = judge(&format!("{chain}allow := x2999 == 3000"), &json!({})).denied;
    assert!(denied.is_none_or(|why| why.contains("took longer")));
}

/// However long a policy would take, it has its 50 ms, and what is left of a step.
#[test]
fn a_policy_that_loops_is_a_refusal_within_its_time() {
    for rego in [
        "allow if { some i in numbers.range(1, 30000); some j in numbers.range(1, 30000); i * j < 0 }",
        "allow := count([1 | some i in numbers.range(1, 5000); some j in numbers.range(1, 5000); i < j]) > 0",
        "allow := true\nviolations contains \"x\" if { some i in numbers.range(1, 30000); some j in numbers.range(1, 30000); i * j < 0 }",
    ] {
        let set = set(rego);
        let begun = Instant::now();
        let verdict = set.judge(&json!({}));
        let took = begun.elapsed();
        let why = verdict.denied.unwrap();
        assert!(
            why.ends_with("took longer than the 50 ms that a policy has"),
            "{why}"
        );
        assert!(took < Duration::from_secs(2), "{took:?}: {rego}");
    }
}

/// What doubles with each step is stopped by time, long before it fills a node.
#[test]
fn a_policy_that_allocates_is_stopped_by_its_time() {
    let mut rego = "x0 := numbers.range(1, 1000)\n".to_owned();
    for step in 1..40 {
        let _ = writeln!(rego, "x{step} := array.concat(x{0}, x{0})", step - 1);
    }
    rego.push_str("allow := count(x39) > 0\n");
    let why = judge(&rego, &json!({})).denied.unwrap();
    assert!(why.contains("took longer than the 50 ms"), "{why}");
}

/// A range is as long as its text says: none that fills the memory is made.
#[test]
fn a_range_that_no_policy_needs_is_refused_before_it_is_made() {
    let begun = Instant::now();
    for range in [
        "numbers.range(1, 1000000000)",
        "numbers.range_step(1, 1000000000, 1)",
        "numbers.range(1000000000, 1)",
    ] {
        let why = refusal(&format!("allow := count({range}) > 0"));
        assert!(why.contains("failed: a.rego:2:"), "{why}");
        assert!(why.contains("at most 100000 numbers"), "{why}");
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(
        judge("allow := numbers.range(3, 1) == [3, 2, 1]", &json!({})).denied,
        None
    );
    assert_eq!(
        judge("allow := numbers.range_step(1, 6, 2) == [1, 3, 5]", &json!({})).denied,
        None
    );
}

#[test]
fn a_directory_that_can_not_be_used_says_which_file_and_where() {
    let none = "DIR has no file NAME.rego that declares the rule allow in package kubernaut.execution: nothing could be allowed; \
                deploy/policy shows one";
    assert_eq!(error(&[]), none);
    assert_eq!(error(&[("notes.txt", ALLOW_ALL)]), none);
    assert_eq!(error(&[("a.rego", "package other\nallow := true")]), none);
    assert_eq!(
        error(&[("a.rego", "package kubernaut.execution\nallowed := true")]),
        none
    );
    let told = error(&[("a.rego", ALLOW_ALL), ("b.rego", "package b\n\nx := {\n")]);
    assert!(told.contains("--> b.rego:4:"), "{told}");
    let told = error(&[("a.rego", "package kubernaut.execution\nallow if nonsense")]);
    assert!(
        told.contains("--> a.rego:2:") && told.contains("`nonsense`"),
        "{told}"
    );
    let told = error(&[("a.rego", ALLOW_ALL), ("limits.json", "{\"a\":\n 1,}")]);
    assert!(
        told.starts_with("limits.json: ") && told.contains("line 2"),
        "{told}"
    );
    let told = error(&[("a.rego", ALLOW_ALL), ("limits.yaml", "- 1\n")]);
    assert_eq!(
        told,
        "limits.yaml: holds no object: only its members can be named in policies, as data.MEMBER"
    );
    let told = error(&[
        ("a.rego", ALLOW_ALL),
        ("d.json", r#"{"kubernaut": {"execution": {"allow": true}}}"#),
    ]);
    assert!(told.starts_with("d.json: has the member \"kubernaut\""), "{told}");
    let absent = PolicySet::load(Path::new("/nowhere/at/all")).err();
    assert!(
        matches!(absent, Some(PolicyError::Unreadable { .. })),
        "{absent:?}"
    );
}

#[test]
fn data_beside_the_rules_is_theirs_to_read() {
    let directory = directory(&[
        (
            "a.rego",
            "package kubernaut.execution\nallow if input.target.namespace in data.open",
        ),
        ("open.yaml", "open: [shop, shop-test]\n"),
        ("recorded.input.json", "no JSON at all"),
        ("recorded.expected.json", "nor this"),
        ("a_test.rego", "package kubernaut.execution\nallow := true"),
    ]);
    let set = PolicySet::load(directory.path()).unwrap();
    assert!(set.judge(&json!({"target": {"namespace": "shop"}})).is_allowed());
    assert!(!set.judge(&json!({"target": {"namespace": "other"}})).is_allowed());
}

struct Mounted {
    directory: TempDir,
    versions: u32,
}

impl Mounted {
    /// As a kubelet mounts a ConfigMap: names link into `..data`, which is a link that is replaced in one step.
    fn new(files: &[(&str, &str)]) -> Self {
        let mut mounted = Self {
            directory: TempDir::new().unwrap(),
            versions: 0,
        };
        mounted.show(files);
        for (name, _) in files {
            let link = Path::new("..data").join(name);
            std::os::unix::fs::symlink(link, mounted.path().join(name)).unwrap();
        }
        mounted
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn show(&mut self, files: &[(&str, &str)]) {
        self.versions += 1;
        let version = format!("..version_{}", self.versions);
        fs::create_dir(self.path().join(&version)).unwrap();
        for (name, text) in files {
            fs::write(self.path().join(&version).join(name), text).unwrap();
        }
        let next = self.path().join("..data_tmp");
        std::os::unix::fs::symlink(version, &next).unwrap();
        fs::rename(next, self.path().join("..data")).unwrap();
    }

    fn policies(&self) -> (Arc<Policies>, Arc<Telemetry>, Readiness) {
        let (telemetry, readiness) = (Arc::<Telemetry>::default(), Readiness::default());
        let policies = Policies::load(self.path(), Arc::clone(&telemetry), readiness.clone()).unwrap();
        (Arc::new(policies), telemetry, readiness)
    }
}

fn is_allowed(policies: &Policies) -> bool {
    policies.present().judge(&json!({})).is_allowed()
}

fn has(telemetry: &Telemetry, line: &str) -> bool {
    telemetry.encode().lines().any(|found| found == line)
}

#[test]
fn a_changed_config_map_decides_once_it_was_looked_at() {
    let mut mounted = Mounted::new(&[("a.rego", ALLOW_ALL)]);
    let (policies, telemetry, readiness) = mounted.policies();
    assert!(is_allowed(&policies));
    let before = policies.present().name().to_owned();
    assert!(
        readiness
            .report()
            .1
            .contains(&format!("note: {before} decides which executions may run"))
    );
    policies.look();
    assert!(
        has(&telemetry, "kubernaut_policy_loads_total{outcome=\"loaded\"} 1"),
        "what is unchanged is not loaded again"
    );

    mounted.show(&[("a.rego", "package kubernaut.execution\nallow := false\n")]);
    policies.look();
    assert!(!is_allowed(&policies));
    assert_ne!(policies.present().name(), before);
    assert!(has(
        &telemetry,
        "kubernaut_policy_loads_total{outcome=\"loaded\"} 2"
    ));
}

#[test]
fn a_broken_version_leaves_the_one_before_in_force_and_says_so() {
    let mut mounted = Mounted::new(&[("a.rego", "package kubernaut.execution\nallow := false\n")]);
    let (policies, telemetry, readiness) = mounted.policies();
    let name = policies.present().name().to_owned();
    assert!(has(&telemetry, "kubernaut_policy_stale 0"));
    for broken in [
        "package kubernaut.execution\nallow := {\n",
        "package other\n",
        "allow := true",
    ] {
        mounted.show(&[("a.rego", broken)]);
        policies.look();
        policies.look();
        assert!(!is_allowed(&policies));
        let (ready, told) = readiness.report();
        assert!(ready, "what decides is there: {told}");
        assert!(
            told.contains(&format!("{name} decides")) && told.contains("can't be used: "),
            "{told}"
        );
        assert!(has(&telemetry, "kubernaut_policy_stale 1"));
    }
    assert!(
        has(&telemetry, "kubernaut_policy_loads_total{outcome=\"broken\"} 3"),
        "each is told of once"
    );

    mounted.show(&[("a.rego", ALLOW_ALL)]);
    policies.look();
    assert!(is_allowed(&policies));
    assert!(has(&telemetry, "kubernaut_policy_stale 0"));
    assert!(!readiness.report().1.contains("can't be used"));
}

#[test]
fn policies_that_went_away_go_on_to_decide() {
    let mounted = Mounted::new(&[("a.rego", "package kubernaut.execution\nallow := false\n")]);
    let (policies, telemetry, readiness) = mounted.policies();
    fs::remove_dir_all(mounted.path()).unwrap();
    policies.look();
    policies.look();
    assert!(!is_allowed(&policies));
    assert!(readiness.report().1.contains("can't be used"));
    assert!(has(
        &telemetry,
        "kubernaut_policy_loads_total{outcome=\"broken\"} 1"
    ));
}

/// Of two files that belong together none is asked with the other's last version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_is_answered_by_parts_of_two_versions() {
    let version = |number: u32| {
        [
            (
                "a.rego".to_owned(),
                "package kubernaut.execution\nimport data.other\nallow := other.number == data.number\n"
                    .to_owned(),
            ),
            (
                "b.rego".to_owned(),
                format!("package other\nnumber := {number}\n"),
            ),
            ("c.json".to_owned(), format!("{{\"number\": {number}}}")),
        ]
    };
    let refer = |files: &[(String, String); 3]| -> Vec<(String, String)> { files.to_vec() };
    let show = |mounted: &mut Mounted, number: u32| {
        let files = refer(&version(number));
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        mounted.show(&files);
    };
    let mut mounted = Mounted::new(&[
        ("a.rego", ALLOW_ALL),
        ("b.rego", "package other"),
        ("c.json", "{}"),
    ]);
    show(&mut mounted, 0);
    let (policies, telemetry, _) = mounted.policies();
    let asked = tokio::spawn({
        let policies = Arc::clone(&policies);
        async move {
            let mut names = std::collections::BTreeSet::new();
            for _ in 0..300 {
                let verdict = policies.judge(json!({})).await.unwrap();
                assert_eq!(verdict.denied, None);
                names.insert(verdict.policy);
            }
            names.len()
        }
    });
    for number in 1..50 {
        show(&mut mounted, number);
        let policies = Arc::clone(&policies);
        tokio::task::spawn_blocking(move || policies.look())
            .await
            .unwrap();
    }
    assert!(asked.await.unwrap() > 1, "more than one version was asked");
    assert!(has(
        &telemetry,
        "kubernaut_policy_verdicts_total{outcome=\"allowed\"} 300"
    ));
    assert!(has(&telemetry, "kubernaut_policy_stale 0"));
}

/// Whatever a policy does, others are answered, and the thread of the actors goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_policy_that_loops_holds_up_nobody_else() {
    let rego = "package kubernaut.execution\nallow if input.quick\n\
                allow if { not input.quick; some i in numbers.range(1, 30000); some j in numbers.range(1, 30000); i * j < 0 }";
    let mounted = Mounted::new(&[("a.rego", rego)]);
    let (policies, ..) = mounted.policies();
    let slow: Vec<_> = (0..4)
        .map(|_| {
            let policies = Arc::clone(&policies);
            tokio::spawn(async move { policies.judge(json!({})).await.unwrap() })
        })
        .collect();
    tokio::task::yield_now().await;
    let quick = policies.judge(json!({"quick": true})).await.unwrap();
    assert_eq!(quick.denied, None);
    for verdict in slow {
        let why = verdict.await.unwrap().denied.unwrap();
        assert!(why.contains("took longer than the 50 ms"), "{why}");
    }
}
