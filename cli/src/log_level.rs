//! `fulmar cluster log-level`: of all brokers of a Cluster on Kubernetes, or of the operator, by `kubectl exec`.
//!
//! Owns whom it asks. A broker answers this only inside of its pod, so the right to `exec` there is the right to change it.

use std::io::Write as _;

use clap::Args;
use fulmar_logging::Ask;

use crate::exit::Failed;
use crate::kubectl::{Bound, Kubectl, KubectlError};

/// A few words each.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Show or change what the brokers of a Cluster on Kubernetes log, for a time
///
/// Without FILTER it shows what each logs; without --cluster it is about all brokers of the namespace. A change ends by itself, and with the process: a broker that is started again logs as configured.
#[derive(Debug, Args)]
pub(crate) struct LogLevel {
    #[command(flatten)]
    ask: Ask,
    /// Only of this broker; may be repeated
    #[arg(long, value_name = "POD", conflicts_with = "operator")]
    broker: Vec<String>,
    /// Of the operator and not of brokers; its namespace is fulmar-system unless --namespace says another
    #[arg(long)]
    operator: bool,
}

impl LogLevel {
    pub(crate) async fn run(self, kubectl: &Kubectl, cluster: Option<&str>) -> Result<(), Failed> {
        if self.operator && cluster.is_some() {
            return Err(Failed::Usage(
                "--operator is of no Cluster: --cluster means nothing there".to_owned(),
            ));
        }
        let place = self.place(kubectl);
        let pods = if self.broker.is_empty() {
            pods(kubectl, &place, &self.selector(cluster)).await?
        } else {
            self.broker.clone()
        };
        let mut refused = 0;
        for pod in &pods {
            let told = match self.exec(kubectl, &place, pod).await {
                Ok(told) => told,
                Err(error) => {
                    refused += 1;
                    format!("not asked: {error}")
                }
            };
            writeln!(std::io::stdout().lock(), "{pod}: {}", told.trim_end())?;
        }
        match refused {
            0 => Ok(()),
            _ => Err(Failed::Failure(format!("{refused} of {} were not asked, or refused it", pods.len()))),
        }
    }

    /// The namespace, as arguments.
    fn place<'a>(&self, kubectl: &'a Kubectl) -> Vec<&'a str> {
        match &kubectl.namespace {
            None if self.operator => vec!["--namespace", "fulmar-system"],
            Some(_) | None => kubectl.place(),
        }
    }

    fn selector(&self, cluster: Option<&str>) -> String {
        let name = if self.operator { "fulmar-operator" } else { "fulmar-broker" };
        let cluster = cluster.map(|cluster| format!(",app.kubernetes.io/instance={cluster}"));
        format!("app.kubernetes.io/name={name}{}", cluster.unwrap_or_default())
    }

    async fn exec(&self, kubectl: &Kubectl, place: &[&str], pod: &str) -> Result<String, KubectlError> {
        let (container, program) =
            if self.operator { ("operator", "/fulmar-operator") } else { ("broker", "/fulmar-broker") };
        let asked = self.ask.arguments();
        let mut arguments = place.to_vec();
        arguments.extend(["exec", pod, "--container", container, "--", program, "log-level"]);
        arguments.extend(asked.iter().map(String::as_str));
        let told = kubectl.run(&arguments, Bound::Whole(ANSWER_BYTES_MAX)).await?;
        Ok(String::from_utf8_lossy(&told).into_owned())
    }
}

async fn pods(kubectl: &Kubectl, place: &[&str], selector: &str) -> Result<Vec<String>, Failed> {
    let arguments = [place, &["get", "pods", "-o", "name", "--selector", selector]].concat();
    let listed = kubectl.run(&arguments, Bound::Whole(ANSWER_BYTES_MAX)).await;
    let listed = listed.map_err(|error| Failed::Failure(format!("kubectl get pods: {error}")))?;
    let listed = String::from_utf8_lossy(&listed);
    let pods: Vec<String> = listed.lines().map(|line| line.trim_start_matches("pod/").to_owned()).collect();
    if pods.is_empty() {
        return Err(Failed::NotFound(format!("there are no pods with {selector}; --namespace says where")));
    }
    Ok(pods)
}
