//! A rehearsal says that it is one, first and last, and how the same is done for real.

use super::{DEPLOYMENT, WORKFLOW, program, run, text};

const LAST: &str = "Rehearsal only: no cluster was changed. To do it for real: kubectl apply -f ";

/// The first and the last line of what is said.
fn first_and_last(said: &str) -> (&str, &str) {
    let mut lines = said.lines();
    let first = lines.next().unwrap_or_default();
    (first, lines.next_back().unwrap_or_default())
}

#[test]
fn a_rehearsal_says_first_and_last_that_it_is_one_whatever_it_rehearses() {
    let rights = "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: all}, \
        roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}, \
        subjects: [{kind: ServiceAccount, name: default, namespace: shop}]}\n---\n";
    let other = DEPLOYMENT.replace("name: web, namespace", "name: other, namespace");
    for (code, input) in [
        (0, WORKFLOW.to_owned()),
        (0, format!("{rights}{DEPLOYMENT}{WORKFLOW}")),
        (1, format!("{other}{WORKFLOW}")),
    ] {
        for verb in ["rehearse", "run"] {
            let output = program(verb, &["-"], &input);
            let said = text(&output.stdout);
            assert_eq!(output.status.code(), Some(code), "{said}{}", text(&output.stderr));
            let (first, last) = first_and_last(&said);
            assert!(first.contains("No other cluster is changed"), "{said}");
            assert!(last.starts_with(LAST), "{said}");
        }
        let output = run(&["-", "--output=json"], &input);
        let errors = text(&output.stderr);
        let (first, last) = first_and_last(&errors);
        assert!(first.contains("No other cluster is changed"), "{errors}");
        assert!(last.starts_with(LAST), "{errors}");
    }
}

#[test]
fn the_command_for_a_cluster_says_what_else_it_would_apply() {
    let said = text(&run(&["deploy/samples/config-fix.yaml"], "").stdout);
    let (_, last) = first_and_last(&said);
    let command = format!("{LAST}deploy/samples/config-fix.yaml -l app.kubernetes.io/component=remediation ");
    assert!(last.starts_with(&command), "{last}");
    assert!(last.contains("without -l it applies"), "{last}");

    let said = text(&run(&["-"], &format!("{DEPLOYMENT}{WORKFLOW}")).stdout);
    let (_, last) = first_and_last(&said);
    assert_eq!(
        last,
        format!(
            "{LAST}- (with the same on standard input; first take out of the files what your cluster has already: it \
             applies Deployment shop/web, too, as the files have them)"
        )
    );

    let said = text(&run(&["-"], WORKFLOW).stdout);
    let (_, last) = first_and_last(&said);
    assert_eq!(last, format!("{LAST}- (with the same on standard input)"));
}
