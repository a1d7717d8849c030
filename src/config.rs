//! Every setting, typed. Flags and the environment are read here and nowhere else.

mod executor;
mod image;
mod names;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use kubernaut_actors::Limits;
use kubernaut_machines::duration::parse_go;
use kubernaut_machines::manifest_kinds::check_kind;
use kubernaut_machines::{ApprovalRules, Settings};

pub use self::executor::ExecutorOptions;
pub(crate) use self::image::{image, names_a_registry};
use self::names::{cluster_name, namespace, namespace_or_none};
use crate::lease::LeaseTimes;
use crate::manifests::CONTROLLER_NAMESPACE;

/// More Jobs, or calls, than any cluster takes at the same time.
pub(crate) const MOST: usize = 10_000;
/// Where a pod finds the namespace it runs in.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// Where Linux tells the name of the host.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";
/// Port of /livez, /readyz and /metrics.
pub const HTTP_PORT: u16 = 8080;

/// How workflows and steps are run: the same for a controller in a cluster and for one that brings its own.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "How steps are run")]
pub struct RunOptions {
    /// Namespace where Jobs run, with the ServiceAccounts that act on targets. Change it when the manifests were
    /// installed with another one
    #[arg(
        long,
        env = "KUBERNAUT_EXECUTOR_NAMESPACE",
        default_value = kubernaut_crds::names::EXECUTOR_NAMESPACE,
        value_parser = namespace,
        value_name = "NAMESPACE"
    )]
    pub executor_namespace: String,

    /// Namespace of the controller and its lease; no workflow may live there. Default: the pod's own, else kubernaut-system
    #[arg(long, env = "KUBERNAUT_CONTROLLER_NAMESPACE", value_parser = namespace_or_none, value_name = "NAMESPACE")]
    pub controller_namespace: Option<String>,

    /// Namespaces in which nothing is acted on and no workflow may live, separated by commas. The controller's and the
    /// executor's are always among them
    #[arg(
        long,
        env = "KUBERNAUT_PROTECTED_NAMESPACES",
        value_delimiter = ',',
        default_values = ["kube-system", "kube-public", "kube-node-lease"],
        value_parser = namespace_or_none,
        value_name = "NAMESPACES"
    )]
    pub protected_namespaces: Vec<String>,

    /// Name of this cluster: steps with another targetCluster are refused. Unset, steps of any targetCluster are run here,
    /// with a warning. Set it where workflows for several clusters are written
    #[arg(long, env = "KUBERNAUT_CLUSTER_NAME", value_parser = cluster_name, value_name = "NAME")]
    pub cluster_name: Option<String>,

    /// Image of the Jobs: kubectl and nothing else. Change it for a mirror, or to keep kubectl within one minor
    /// version of the API server
    #[arg(
        long,
        env = "KUBERNAUT_KUBECTL_IMAGE",
        default_value = "registry.k8s.io/kubectl:v1.35.4",
        value_parser = image,
        value_name = "IMAGE"
    )]
    pub kubectl_image: String,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub executor: ExecutorOptions,

    /// Longest timeout that a step may ask for, such as 15m. Raise it for slow drains
    #[arg(long, env = "KUBERNAUT_MAX_STEP_TIMEOUT", default_value = "15m", value_parser = parse_go, value_name = "DURATION")]
    pub max_step_timeout: Duration,

    /// How long a finished Job stays for people to look at, such as 1h; at least 1m, for the controller looks at it, too
    #[arg(long, env = "KUBERNAUT_JOB_TTL", default_value = "1h", value_parser = at_least_a_minute, value_name = "DURATION")]
    pub job_ttl: Duration,

    /// How long a KubernetesExecution that belongs to no workflow stays after its end, such as 168h; 0s keeps it. That of a
    /// workflow stays as long as its workflow, whose spec.ttlSecondsAfterFinished says how long that is
    #[arg(long, env = "KUBERNAUT_EXECUTION_TTL", default_value = "168h", value_parser = parse_go, value_name = "DURATION")]
    pub execution_ttl: Duration,

    /// Whether a step is completed only when its outcome was seen in the cluster. false trusts kubectl's exit code
    #[arg(
        long,
        env = "KUBERNAUT_VERIFICATION",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub verification: bool,

    /// Act on objects that Argo CD or Flux manage, which may undo the change. Without it such steps fail
    #[arg(
        long,
        env = "KUBERNAUT_ALLOW_GITOPS_MANAGED",
        default_value_t = false,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub allow_gitops_managed: bool,

    /// Kinds that apply-manifest may apply, separated by commas, such as ConfigMap,apps/Deployment. Empty refuses every
    /// manifest. The apply-manifest ServiceAccount needs rights for the same kinds
    #[arg(
        long,
        env = "KUBERNAUT_APPLY_MANIFEST_KINDS",
        value_delimiter = ',',
        value_parser = known_kind,
        value_name = "KINDS"
    )]
    pub apply_manifest_kinds: Vec<String>,

    /// Whose rights a step needs. `rights`: those of the ServiceAccount that the workflow names. `none`: whoever may
    /// create a workflow may do everything; only for clusters with one tenant
    #[arg(
        long,
        env = "KUBERNAUT_AUTHORIZATION",
        default_value = "rights",
        value_name = "MODE"
    )]
    pub authorization: Authorization,

    /// Directory of policies in Rego, such as a mounted ConfigMap: what their package kubernaut.execution does not allow does not
    /// run. Changes are taken up within seconds. Without it everything is allowed that RBAC allows
    #[arg(long, env = "KUBERNAUT_POLICY_DIR", value_name = "DIR")]
    pub policy_dir: Option<PathBuf>,

    /// How long after its last step a workflow looks once more whether all is as wanted, and ends. 0s ends it at once, without
    /// that look
    #[arg(long, env = "KUBERNAUT_MONITORING_WINDOW", default_value = "30s", value_parser = window, value_name = "DURATION")]
    pub monitoring_window: Duration,

    /// How long a workflow or an execution waits for its approval, such as 1h, before it fails
    #[arg(long, env = "KUBERNAUT_APPROVAL_TIMEOUT", default_value = "1h", value_parser = at_least_a_second, value_name = "DURATION")]
    pub approval_timeout: Duration,

    /// How old an Approval may be when what it approves begins, such as 1h; an older one has to be made anew
    #[arg(long, env = "KUBERNAUT_APPROVAL_VALIDITY", default_value = "1h", value_parser = at_least_a_second, value_name = "DURATION")]
    pub approval_validity: Duration,

    /// Whether whoever created a workflow or an execution may also approve it; for clusters where one person does all
    #[arg(
        long,
        env = "KUBERNAUT_ALLOW_SELF_APPROVAL",
        default_value_t = false,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub allow_self_approval: bool,

    /// Most Jobs that run at the same time; further steps and workflows wait until one ends, and namespaces take turns. A Job's
    /// time runs while its pod waits for a node: keep it within what the nodes can run
    #[arg(long, env = "KUBERNAUT_MAX_RUNNING_JOBS", default_value_t = 50, value_parser = at_least_one, value_name = "NUMBER")]
    pub max_running_jobs: usize,

    /// Most calls to the API server at the same time. Lower it where the API server throttles the controller
    #[arg(long, env = "KUBERNAUT_API_CONCURRENCY", default_value_t = 32, value_parser = at_least_one, value_name = "NUMBER")]
    pub api_concurrency: usize,
}

/// Whose rights a step needs.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// The workflow's ServiceAccount must be allowed to do what the step does.
    Rights,
    /// Nobody is asked.
    None,
}

/// What a process says about itself.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What it says about itself")]
pub struct TelemetryOptions {
    /// Form of the log: text for people, json for machines
    #[arg(
        long,
        env = "KUBERNAUT_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, or directives such as info,kubernaut=debug
    #[arg(
        long,
        env = "KUBERNAUT_LOG_LEVEL",
        default_value = "info",
        value_parser = log_level,
        value_name = "LEVEL"
    )]
    pub log_level: String,
}

/// Log directives; a word alone must be a level. The filter would take it for the name of a module, and log nothing.
///
/// # Errors
/// In words.
pub fn log_level(text: &str) -> Result<String, String> {
    let alone = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.contains(['=', '[']));
    for part in alone {
        if part.parse::<tracing_subscriber::filter::LevelFilter>().is_err() {
            return Err(format!(
                "{part:?} is not a level: write error, warn, info, debug, trace or off, or MODULE=LEVEL"
            ));
        }
    }
    Ok(text.to_owned())
}

/// Form of the log.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A controller in, or beside, a cluster.
#[derive(Args, Clone, Debug)]
pub struct ControllerOptions {
    /// Kubeconfig file. Default: the pod's ServiceAccount, else KUBECONFIG, else ~/.kube/config
    #[arg(long, env = "KUBERNAUT_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Address of /livez, /readyz and /metrics
    #[arg(
        long,
        env = "KUBERNAUT_HTTP_ADDRESS",
        default_value_t = SocketAddr::from(([0, 0, 0, 0], HTTP_PORT)),
        value_name = "ADDRESS"
    )]
    pub http_address: SocketAddr,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub lease: LeaseOptions,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: RunOptions,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub telemetry: TelemetryOptions,
}

/// Which of several controllers leads.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which controller leads")]
pub struct LeaseOptions {
    /// Whether it waits for the lease kubernaut-controller in the controller's namespace, so that one of several
    /// controllers acts at a time. false only where nothing else runs beside it, not even for a moment during an upgrade
    #[arg(
        long,
        env = "KUBERNAUT_LEADER_ELECT",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub leader_elect: bool,

    /// How long the others wait after the last sign of life of a leader, in whole seconds. Raise it where the API server
    /// is often slow; then a leader that died is missed longer
    #[arg(long, env = "KUBERNAUT_LEASE_DURATION", default_value = "15s", value_parser = parse_go, value_name = "DURATION")]
    pub lease_duration: Duration,

    /// How long a leader that can't renew its lease goes on before its process ends. What is left of --lease-duration
    /// is the time that its last writes may take to arrive
    #[arg(long, env = "KUBERNAUT_LEASE_RENEW_DEADLINE", default_value = "10s", value_parser = parse_go, value_name = "DURATION")]
    pub lease_renew_deadline: Duration,

    /// Pause after a try to read, take or renew the lease that failed; at most half of --lease-renew-deadline
    #[arg(long, env = "KUBERNAUT_LEASE_RETRY_PERIOD", default_value = "2s", value_parser = parse_go, value_name = "DURATION")]
    pub lease_retry_period: Duration,
}

impl LeaseOptions {
    /// The times, if they fit each other.
    ///
    /// # Errors
    /// In words for a person, naming the flags.
    pub fn times(&self) -> Result<LeaseTimes, String> {
        LeaseTimes::new(
            self.lease_duration,
            self.lease_renew_deadline,
            self.lease_retry_period,
        )
    }
}

/// A name for this process that no other has had: that of its host, in a pod the pod's, and a random number.
pub fn identity() -> String {
    let variable = std::env::var("HOSTNAME").ok();
    let host = variable.or_else(|| std::fs::read_to_string(HOST_NAME_FILE).ok());
    let host = host.unwrap_or_default();
    // Each hasher has keys of its own, from the system's source of random numbers.
    let random = RandomState::new().build_hasher().finish();
    match host.trim() {
        "" => format!("kubernaut_{random:016x}"),
        host => format!("{host}_{random:016x}"),
    }
}

impl RunOptions {
    /// What decisions depend on.
    pub fn settings(&self) -> Settings {
        let controller = self.controller_namespace();
        let mut protected: BTreeSet<String> = self.protected_namespaces.iter().cloned().collect();
        protected.insert(controller);
        protected.insert(self.executor_namespace.clone());
        protected.remove("");
        Settings {
            cluster_name: self.cluster_name.clone().filter(|name| !name.is_empty()),
            executor_namespace: self.executor_namespace.clone(),
            protected_namespaces: protected,
            actions: self.executor.kinds().collect(),
            executor_node_selector: self.executor.node_selector(),
            executor_tolerations: self.executor.tolerations(),
            kubectl_image: self.kubectl_image.clone(),
            max_step_timeout: self.max_step_timeout,
            job_ttl_seconds: i32::try_from(self.job_ttl.as_secs()).unwrap_or(i32::MAX),
            verification: self.verification,
            allow_gitops_managed: self.allow_gitops_managed,
            apply_manifest_kinds: self
                .apply_manifest_kinds
                .iter()
                .filter(|kind| !kind.is_empty())
                .cloned()
                .collect(),
            authorization: self.authorization == Authorization::Rights,
            policy: self.policy_directory().is_some(),
            monitoring_window: self.monitoring_window,
            approval: ApprovalRules {
                timeout: self.approval_timeout,
                validity: self.approval_validity,
                allow_self: self.allow_self_approval,
            },
        }
    }

    /// Whether its flags fit each other.
    ///
    /// # Errors
    /// In words for a person, naming the flags.
    pub fn check(&self) -> Result<(), String> {
        let controller = self.controller_namespace();
        if controller == self.executor_namespace {
            return Err(format!(
                "the controller and its Jobs can't share the namespace {controller}: nothing but Jobs may run where \
                 they do; change --executor-namespace or --controller-namespace"
            ));
        }
        self.is_ours("--executor-namespace", &self.executor_namespace)?;
        self.is_ours("--controller-namespace", &controller)?;
        self.executor.check()
    }

    /// Where the policies are in force nobody else makes pods, and Pod Security is restricted: the cluster's own pods,
    /// or a team's, would not come back.
    fn is_ours(&self, flag: &str, namespace: &str) -> Result<(), String> {
        if namespace == "default" || namespace.starts_with("kube-") {
            return Err(format!(
                "{flag} {namespace}: that namespace is the cluster's own, and others have pods there that the policies \
                 would keep from starting; name one that is kubernaut's alone"
            ));
        }
        if self.protected_namespaces.iter().any(|name| name == namespace) {
            return Err(format!(
                "{flag} {namespace}: --protected-namespaces names it as somebody's whom nothing may disturb; name another \
                 one, or leave it out there if it is kubernaut's alone, which is protected anyway"
            ));
        }
        Ok(())
    }

    /// Where the policies are.
    pub fn policy_directory(&self) -> Option<&Path> {
        let directory = self.policy_dir.as_deref();
        directory.filter(|directory| !directory.as_os_str().is_empty())
    }

    /// Where the controller and its lease are.
    pub fn controller_namespace(&self) -> String {
        let named = self.controller_namespace.clone().filter(|name| !name.is_empty());
        named.unwrap_or_else(own_namespace)
    }

    /// How much at the same time, and for how long.
    pub fn limits(&self) -> Limits {
        Limits {
            max_running_jobs: self.max_running_jobs,
            api_concurrency: self.api_concurrency,
            execution_ttl: self.execution_ttl,
        }
    }
}

fn own_namespace() -> String {
    let found = std::fs::read_to_string(NAMESPACE_FILE).ok();
    let found = found
        .map(|text| text.trim().to_owned())
        .filter(|name| !name.is_empty());
    found.unwrap_or_else(|| CONTROLLER_NAMESPACE.to_owned())
}

/// Longest monitoring window: a workflow is not over before it is.
const WINDOW_MAX: Duration = Duration::from_secs(3600);

fn window(text: &str) -> Result<Duration, String> {
    match parse_go(text) {
        Ok(window) if window > WINDOW_MAX => {
            Err("must be at most 1h: no workflow ends before it is over".to_owned())
        }
        Ok(window) => Ok(window),
        Err(error) => Err(error.to_string()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) if number > MOST => Err(format!("must be at most {MOST}")),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// A kind with a typo would allow nothing, and say so only when a step is refused.
fn known_kind(text: &str) -> Result<String, String> {
    let kind = text.trim();
    match Some(kind).filter(|kind| !kind.is_empty()).and_then(check_kind) {
        Some(problem) => Err(problem),
        None => Ok(kind.to_owned()),
    }
}

/// A Job that is gone before its end was seen has vanished, and its step may fail.
fn at_least_a_minute(text: &str) -> Result<Duration, String> {
    match parse_go(text) {
        Ok(ttl) if ttl < Duration::from_mins(1) => Err("must be at least 1m".to_owned()),
        Ok(ttl) => Ok(ttl),
        Err(error) => Err(error.to_string()),
    }
}

/// A second is the unit in which the API server says when something was made.
fn at_least_a_second(text: &str) -> Result<Duration, String> {
    match parse_go(text) {
        Ok(span) if span < Duration::from_secs(1) => Err("must be at least 1s".to_owned()),
        Ok(span) => Ok(span),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use kubernaut_machines::actions::ActionKind;
    use kubernaut_machines::toleration::Toleration;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: ControllerOptions,
    }

    #[test]
    fn a_monitoring_window_has_an_end() {
        let error = parse(&["--monitoring-window=2h"])
            .expect_err("refused")
            .to_string();
        assert!(error.contains("at most 1h"), "{error}");
        let options = parse(&[]).unwrap();
        assert_eq!(options.run.settings().monitoring_window, Duration::from_secs(30));
    }

    #[test]
    fn what_can_not_be_a_namespace_is_refused_where_it_is_said() {
        for flag in [
            "executor-namespace",
            "controller-namespace",
            "protected-namespaces",
        ] {
            for bad in ["Kube-System", "-a", "a-", "a.b", &"a".repeat(64)] {
                let error = parse(&[&format!("--{flag}={bad}")]).expect_err(bad).to_string();
                assert!(error.contains("not a name of a namespace"), "{error}");
            }
        }
        let options = parse(&["--protected-namespaces=a, b,"]).unwrap();
        let protected = options.run.settings().protected_namespaces;
        assert!(
            protected.contains("a") && protected.contains("b"),
            "{protected:?}"
        );
        assert!(!protected.contains(""));
    }

    #[test]
    fn neither_the_controller_nor_its_jobs_take_a_namespace_that_is_somebody_elses() {
        for flag in ["executor-namespace", "controller-namespace"] {
            for namespace in ["kube-system", "kube-flannel", "default", "vault"] {
                let options = parse(&[
                    &format!("--{flag}={namespace}"),
                    "--protected-namespaces=kube-system,vault",
                ])
                .unwrap();
                let error = options.run.check().expect_err(namespace);
                assert!(error.contains(&format!("--{flag} {namespace}")), "{error}");
            }
        }
    }

    #[test]
    fn the_controller_and_its_jobs_do_not_share_a_namespace() {
        let shared = parse(&["--controller-namespace=one", "--executor-namespace=one"]).unwrap();
        let error = shared.run.check().expect_err("refused");
        assert!(error.contains("--executor-namespace"), "{error}");
        assert_eq!(
            parse(&["--controller-namespace=one"]).unwrap().run.check(),
            Ok(())
        );
    }

    fn parse(arguments: &[&str]) -> Result<ControllerOptions, clap::Error> {
        Command::try_parse_from(std::iter::once("kubernaut").chain(arguments.iter().copied()))
            .map(|command| command.options)
    }

    #[test]
    fn without_flags_the_settings_are_the_documented_defaults() {
        let options = parse(&["--controller-namespace=kubernaut-system"]).unwrap();
        let expected = Settings {
            monitoring_window: Duration::from_secs(30),
            ..Settings::default()
        };
        assert_eq!(options.run.settings(), expected);
        assert_eq!(options.run.limits(), Limits::default());
        assert_eq!(options.http_address.port(), 8080);
        assert!(options.lease.leader_elect);
        assert_eq!(options.lease.times(), Ok(LeaseTimes::default()));
    }

    #[test]
    fn every_setting_has_a_flag() {
        let options = parse(&[
            "--executor-namespace=jobs",
            "--controller-namespace=me",
            "--protected-namespaces=a,b",
            "--cluster-name=east",
            "--kubectl-image=mirror/kubectl:v1",
            "--max-step-timeout=1h30m",
            "--job-ttl=90s",
            "--verification=false",
            "--allow-gitops-managed",
            "--apply-manifest-kinds=ConfigMap,apps/Deployment",
            "--actions=scale-deployment,drain-node",
            "--executor-node-selector=pool=repairs",
            "--executor-tolerations=pool=repairs:NoSchedule",
            "--authorization=none",
            "--policy-dir=/etc/kubernaut/policy",
            "--monitoring-window=0s",
            "--approval-timeout=30m",
            "--approval-validity=20m",
            "--allow-self-approval",
            "--max-running-jobs=7",
        ])
        .unwrap();
        let expected = Settings {
            cluster_name: Some("east".to_owned()),
            executor_namespace: "jobs".to_owned(),
            protected_namespaces: ["a", "b", "me", "jobs"].into_iter().map(str::to_owned).collect(),
            actions: [ActionKind::ScaleDeployment, ActionKind::DrainNode].into(),
            executor_node_selector: [("pool".to_owned(), "repairs".to_owned())].into(),
            executor_tolerations: vec![Toleration::parse("pool=repairs:NoSchedule").unwrap()],
            kubectl_image: "mirror/kubectl:v1".to_owned(),
            max_step_timeout: Duration::from_mins(90),
            job_ttl_seconds: 90,
            verification: false,
            allow_gitops_managed: true,
            apply_manifest_kinds: vec!["ConfigMap".to_owned(), "apps/Deployment".to_owned()],
            authorization: false,
            policy: true,
            monitoring_window: Duration::ZERO,
            approval: ApprovalRules {
                timeout: Duration::from_mins(30),
                validity: Duration::from_mins(20),
                allow_self: true,
            },
        };
        assert_eq!(options.run.settings(), expected);
        assert_eq!(options.run.limits().max_running_jobs, 7);
    }

    #[test]
    fn an_identity_is_made_once() {
        let (one, other) = (identity(), identity());
        assert_ne!(one, other);
        assert!(one.contains('_') && !one.contains(char::is_whitespace), "{one}");
    }

    #[test]
    fn a_bad_value_is_refused_with_the_flag_and_the_text() {
        for (argument, text) in [
            ("--max-step-timeout=soon", "soon"),
            ("--max-running-jobs=0", "at least 1"),
            ("--api-concurrency=9999999999999999999", "at most"),
            ("--job-ttl=500ms", "at least 1m"),
            ("--authorization=maybe", "maybe"),
            ("--apply-manifest-kinds=ConfigMap,Deploymnt", "Deploymnt"),
            ("--apply-manifest-kinds=Secret", "Secret"),
            ("--http-address=here", "here"),
            ("--cluster-name=X Y", "no spaces"),
            ("--kubectl-image=", "not an image"),
            ("--kubectl-image=bad image!!", "not an image"),
        ] {
            let error = parse(&[argument]).err().unwrap().to_string();
            let flag = argument.split('=').next().unwrap();
            assert!(error.contains(flag) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn every_flag_has_help_and_an_environment_variable() {
        use clap::CommandFactory;
        for argument in Command::command().get_arguments() {
            let Some(flag) = argument.get_long().filter(|flag| *flag != "help") else {
                continue;
            };
            assert!(argument.get_help().is_some(), "--{flag} has no help");
            let variable = argument
                .get_env()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            assert_eq!(
                variable,
                format!("KUBERNAUT_{}", flag.replace('-', "_").to_uppercase())
            );
        }
    }
}
