//! An operator that runs as a process of the test, with the rights of the installed one, and reaches the API server through a
//! [`Proxy`]. It is started again whenever it ends, as kubelet does, but at once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use http::Request;
use kube::Client;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::environment::Environment;
use crate::installation::{self, NAMESPACE, RELEASE};
use crate::proxy::Proxy;

/// Between two looks whether it still runs.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// For how long its Lease holds, as in the chart.
pub const LEASE_SECONDS: u16 = 3;

/// Its token is good for longer than any test takes.
const TOKEN: &str = "--duration=1h";

/// An operator that looks after some namespaces. The installed one is away meanwhile.
pub struct Operator {
    proxy: Arc<Proxy>,
    starts: Arc<AtomicU64>,
    lease_seconds: Arc<AtomicU16>,
    keeper: JoinHandle<()>,
    environment: &'static Environment,
}

/// How it is started.
struct Start {
    binary: PathBuf,
    log: PathBuf,
    variables: Vec<(&'static str, String)>,
    lease_seconds: Arc<AtomicU16>,
}

impl Operator {
    /// Sends the installed operator away, and starts one for these namespaces, with a Lease as the chart has it.
    pub async fn start(environment: &'static Environment, namespaces: &[&str]) -> Result<Self> {
        installation::ensure_without_operator(environment)?;
        let token = environment.kubectl(&["create", "token", RELEASE, "--namespace", NAMESPACE, TOKEN])?;
        let proxy = Arc::new(Proxy::start(token.trim().to_owned()).await?);
        let folder = environment.logs.join(namespaces[0]);
        fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let kubeconfig = folder.join("kubeconfig.yaml");
        fs::write(&kubeconfig, kubeconfig_of(&proxy))
            .with_context(|| format!("could not write {}", kubeconfig.display()))?;
        let variables = vec![
            ("KUBECONFIG", kubeconfig.to_string_lossy().into_owned()),
            ("POD_NAME", "fulmar-of-a-test".to_owned()),
            ("POD_NAMESPACE", NAMESPACE.to_owned()),
            ("WATCH_NAMESPACES", namespaces.join(",")),
            ("FULMAR_BROKER_IMAGE", environment.current().broker_image.clone()),
            ("FULMAR_HTTP_ADDRESS", "127.0.0.1:0".to_owned()),
            ("FULMAR_LEASE_NAME", RELEASE.to_owned()),
            ("FULMAR_LOG_LEVEL", "info,fulmar_operator=debug".to_owned()),
            ("FULMAR_LOG_FORMAT", "text".to_owned()),
        ];
        let binary = environment.binaries.join("fulmar-operator");
        let lease_seconds = Arc::new(AtomicU16::new(LEASE_SECONDS));
        let log = folder.join("operator-of-the-test.log");
        let start = Start { binary, log, variables, lease_seconds: Arc::clone(&lease_seconds) };
        let starts = Arc::new(AtomicU64::new(0));
        let keeper = tokio::spawn(keep(Arc::clone(&proxy), start, Arc::clone(&starts)));
        Ok(Self { proxy, starts, lease_seconds, keeper, environment })
    }

    /// What stands between it and the API server.
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// Kills it; the next one's Lease holds for so many seconds.
    pub fn start_anew(&self, lease_seconds: u16) {
        self.lease_seconds.store(lease_seconds, Ordering::Relaxed);
        self.proxy.kill();
    }

    /// How often it was started, to be asked from anywhere.
    pub fn counting(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let starts = Arc::clone(&self.starts);
        move || starts.load(Ordering::Relaxed)
    }

    /// How often it was started.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.keeper.abort();
        self.proxy.kill();
        // Nobody waits for it here: who needs it does, and namespaces that are to go need it soon.
        let scale = ["scale", "deployment", "--namespace", NAMESPACE, "--all", "--replicas=1"];
        if let Err(error) = self.environment.kubectl(&scale) {
            eprintln!("the installed operator stays away: {error:#}");
        }
    }
}

/// Without a user: the proxy adds the token.
fn kubeconfig_of(proxy: &Proxy) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": proxy.url()}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
        "current-context": "proxy",
    })
    .to_string()
}

async fn keep(proxy: Arc<Proxy>, start: Start, starts: Arc<AtomicU64>) {
    let lease = match Client::try_default().await {
        Ok(client) => client,
        Err(error) => return eprintln!("no operator is started: {error:#}"),
    };
    loop {
        if proxy.is_orphaned() {
            // A successor would wait for it, a few seconds each time: that is another test's promise.
            forget_lease(&lease).await;
            match start.run() {
                Ok(child) => {
                    proxy.belongs_to(child);
                    starts.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => eprintln!("the operator does not start: {error:#}"),
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Deletes the Lease of a dead operator; that there is none is as well.
async fn forget_lease(client: &Client) {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{RELEASE}");
    let request = Request::delete(path).body(Vec::new()).expect("a path of letters");
    let _ = client.request_text(request).await;
}

impl Start {
    fn run(&self) -> Result<std::process::Child> {
        let log = append(&self.log)?;
        let errors = log.try_clone()?;
        let mut command = Command::new(&self.binary);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        command.env("FULMAR_LEASE_SECONDS", self.lease_seconds.load(Ordering::Relaxed).to_string());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.spawn().with_context(|| format!("could not start {}", self.binary.display()))
    }
}

fn append(path: &Path) -> Result<File> {
    let opened = File::options().create(true).append(true).open(path);
    opened.with_context(|| format!("could not write {}", path.display()))
}
