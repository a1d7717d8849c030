//! What of the executor is installed, and where its Jobs run.

use std::collections::BTreeMap;

use clap::Args;
use kubernaut_machines::actions::ActionKind;
use kubernaut_machines::toleration::{Toleration, parse_label};

/// Which actions there are, and which nodes their Jobs may run on.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "How steps are run")]
pub struct ExecutorOptions {
    /// Actions that are installed, separated by commas: their ServiceAccounts and rights. A step of another one is
    /// refused. Leave out what no workflow of yours needs, first of all update-secret: whoever gets a token of its
    /// account reads every Secret of the cluster
    #[arg(
        long,
        env = "KUBERNAUT_ACTIONS",
        value_delimiter = ',',
        default_values_t = ActionKind::ALL.map(|kind| kind.canonical().to_owned()),
        value_parser = action,
        value_name = "ACTIONS"
    )]
    pub actions: Vec<String>,

    /// Labels of the nodes where Jobs may run, as KEY=VALUE, separated by commas. Name nodes where no tenant's pods run:
    /// whoever is root on a node has the tokens of the pods there
    #[arg(
        long,
        env = "KUBERNAUT_EXECUTOR_NODE_SELECTOR",
        value_delimiter = ',',
        value_parser = label_or_none,
        value_name = "LABELS"
    )]
    pub executor_node_selector: Vec<String>,

    /// Taints that don't keep Jobs away, as KEY=VALUE:EFFECT, KEY:EFFECT or KEY, separated by commas
    #[arg(
        long,
        env = "KUBERNAUT_EXECUTOR_TOLERATIONS",
        value_delimiter = ',',
        value_parser = taint_or_none,
        value_name = "TAINTS"
    )]
    pub executor_tolerations: Vec<String>,
}

impl ExecutorOptions {
    pub(super) fn kinds(&self) -> impl Iterator<Item = ActionKind> {
        self.actions
            .iter()
            .filter_map(|name| ActionKind::named(name).ok())
    }

    pub(super) fn node_selector(&self) -> BTreeMap<String, String> {
        self.labels().collect()
    }

    pub(super) fn tolerations(&self) -> Vec<Toleration> {
        let taints = self.executor_tolerations.iter();
        taints.filter_map(|text| Toleration::parse(text).ok()).collect()
    }

    /// Whether the labels can be those of one node.
    pub(super) fn check(&self) -> Result<(), String> {
        let selector = self.node_selector();
        match self.labels().find(|(key, value)| selector[key] != *value) {
            Some((key, _)) => Err(format!(
                "--executor-node-selector names the label {key} with two values, and no node has both"
            )),
            None => Ok(()),
        }
    }

    fn labels(&self) -> impl Iterator<Item = (String, String)> {
        self.executor_node_selector
            .iter()
            .filter_map(|text| parse_label(text).ok())
    }
}

/// One with a typo would be left out, and say so only when a step is refused.
fn action(text: &str) -> Result<String, String> {
    ActionKind::named(text.trim()).map(|kind| kind.canonical().to_owned())
}

fn label_or_none(text: &str) -> Result<String, String> {
    let text = text.trim();
    if !text.is_empty() {
        parse_label(text)?;
    }
    Ok(text.to_owned())
}

fn taint_or_none(text: &str) -> Result<String, String> {
    let text = text.trim();
    if !text.is_empty() {
        Toleration::parse(text)?;
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: ExecutorOptions,
    }

    fn parse(argument: &str) -> Result<ExecutorOptions, String> {
        let command = Command::try_parse_from(["kubernaut", argument]);
        command
            .map(|command| command.options)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_names_no_action_no_label_and_no_taint_is_refused_with_what_would() {
        for (argument, words) in [
            (
                "--actions=reboot-node",
                "there are scale-deployment, scale-stateful-set, rollout-restart",
            ),
            ("--actions=restart-pod", "delete-pod stands for it"),
            ("--actions=", "is not the name of an action"),
            ("--executor-node-selector=pool", "write KEY=VALUE"),
            ("--executor-tolerations=pool:Never", "there are NoSchedule"),
        ] {
            let error = parse(argument).expect_err(argument);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn nothing_is_as_good_as_unset_for_the_nodes_of_jobs() {
        for argument in ["--executor-node-selector=", "--executor-tolerations="] {
            let options = parse(argument).expect(argument);
            assert!(options.node_selector().is_empty() && options.tolerations().is_empty());
            assert_eq!(options.check(), Ok(()));
        }
    }

    #[test]
    fn labels_that_no_node_has_together_are_refused() {
        let options = parse("--executor-node-selector=pool=a,zone=b,pool=c").expect("understood");
        let error = options.check().expect_err("refused");
        assert!(error.contains("pool"), "{error}");
    }
}
