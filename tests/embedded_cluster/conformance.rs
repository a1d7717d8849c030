//! The cases that the tier control-plane also runs on a real API server, on the embedded cluster alone.

#[path = "../conformance/mod.rs"]
pub(crate) mod suite;

mod the_embedded_cluster_answers_as_expected_about {
    use super::suite::{self, Backend, Memory};

    macro_rules! areas {
        ($($area:ident),* $(,)?) => {$(
            #[tokio::test(start_paused = true)]
            async fn $area() {
                let outcomes = suite::run(&Backend::Memory(Memory::new()), &suite::$area()).await;
                let wrong = suite::failures("embedded", &outcomes);
                assert!(wrong.is_empty(), "{}", wrong.join("\n"));
            }
        )*};
    }

    suite::with_areas!(areas);
}

mod the_comparison {
    use std::collections::BTreeMap;

    use embedded_cluster::User;

    use super::suite::{self, Backend, Memory, Outcome, compare};

    fn outcome(case: &'static str, request: &str, lines: &[(&str, &str)]) -> Vec<Outcome> {
        let lines: BTreeMap<String, String> = lines
            .iter()
            .map(|(path, value)| ((*path).to_owned(), (*value).to_owned()))
            .collect();
        vec![Outcome {
            case,
            transcript: vec![(request.to_owned(), lines)],
            failures: Vec::new(),
        }]
    }

    #[test]
    fn names_the_case_the_request_and_the_line_that_differ() {
        let here = outcome("a_case", "GET cm/a", &[("/code", "200"), ("/body/x", "1")]);
        let there = outcome("a_case", "GET cm/a", &[("/code", "404"), ("/body/x", "1")]);
        assert_eq!(
            compare(&here, &there),
            ["a_case: GET cm/a\n    /code\n      embedded: 200\n      real:     404"]
        );
        assert!(compare(&here, &here).is_empty());
        let other = outcome("a_case", "GET cm/b", &[]);
        assert_eq!(
            compare(&here, &other),
            ["a_case: asked GET cm/a, really GET cm/b"]
        );
    }

    #[test]
    fn takes_words_of_go_for_the_same_but_no_other_code() {
        let message = "\"json: cannot unmarshal string\"";
        let here = outcome(
            "a_case",
            "POST cm",
            &[("/code", "400"), ("/body/message", "\"not so\"")],
        );
        let there = outcome(
            "a_case",
            "POST cm",
            &[("/code", "400"), ("/body/message", message)],
        );
        assert!(compare(&here, &there).is_empty());
        let there = outcome(
            "a_case",
            "POST cm",
            &[("/code", "422"), ("/body/message", message)],
        );
        assert_eq!(compare(&here, &there).len(), 1);
    }

    #[test]
    fn tells_of_a_listed_difference_that_is_none_any_more() {
        let same = outcome(
            "a_job_makes_one_pod_with_its_labels",
            "finalizers",
            &[("", "null")],
        );
        let told = compare(&same, &same);
        assert!(
            told.len() == 1 && told[0].contains("no difference any more"),
            "{told:?}"
        );
        let silent = outcome("a_lease_has_micro_times", "POST lease", &[("/code", "400")]);
        let told = compare(&silent, &silent);
        assert!(told.len() == 1 && told[0].contains("nobody says"), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn needs_nothing_of_the_real_one_but_a_client() {
        let memory = Memory::new();
        let real = Backend::Real(memory.client(User::admin()));
        let outcomes = suite::run(&real, &suite::rules()).await;
        assert_eq!(suite::failures("real", &outcomes), Vec::<String>::new());
        let again = suite::run(&Backend::Memory(Memory::new()), &suite::rules()).await;
        assert_eq!(compare(&again, &outcomes), Vec::<String>::new());
    }
}
