//! The API server of the oldest Kubernetes that Fulmar is for, alone with an etcd on loopback, for one test.
//!
//! Owns both processes: they end with it. There are no controllers and no nodes, so nothing that it is given comes to be.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::KeyPair;
use tempfile::TempDir;

use crate::environment::Environment;
use crate::wait;

/// It needs seconds; a machine that is busy needs more.
const READY_WITHIN: Duration = Duration::from_mins(3);

/// Below the ports that a system hands out, and none that Kubernetes uses: the tests' own cluster is in the same namespaces.
const ETCD: &str = "http://127.0.0.1:12379";
const ETCD_PEERS: &str = "http://127.0.0.1:12380";
const PORT: u16 = 16_443;

/// Whoever knows it may do everything here.
const TOKEN: &str = "of-the-test";

/// Its processes.
#[derive(Debug)]
pub struct Floor {
    folder: TempDir,
    processes: Vec<Child>,
}

impl Floor {
    /// Starts it, and waits until it is ready.
    pub fn start(environment: &Environment) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for its state")?;
        // First, so that what is half started ends too.
        let mut floor = Self { folder, processes: Vec::new() };
        floor.write_identity()?;
        floor.start_etcd(environment)?;
        floor.start_api_server(environment)?;
        let kubeconfig = floor.kubeconfig();
        let kubeconfig = kubeconfig.to_str().context("the path is UTF-8")?;
        wait::until_so("the oldest API server is ready", READY_WITHIN, || {
            for process in &mut floor.processes {
                let ended = process.try_wait()?;
                ensure!(
                    ended.is_none(),
                    "a process has ended, see floor-*.log in {}",
                    environment.logs.display()
                );
            }
            environment.kubectl_once(&["--kubeconfig", kubeconfig, "get", "--raw", "/readyz"]).map(|_| true)
        })?;
        Ok(floor)
    }

    /// By which `kubectl` finds it, with all rights.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    fn write_identity(&self) -> Result<()> {
        let at = |name: &str| self.folder.path().join(name);
        let key = KeyPair::generate()?;
        fs::write(at("sa.key"), key.serialize_pem())?;
        fs::write(at("sa.pub"), key.public_key_pem())?;
        fs::write(at("tokens"), format!("{TOKEN},admin,1,system:masters\n"))?;
        let kubeconfig = format!(
            r#"
apiVersion: v1
kind: Config
clusters: [{{name: floor, cluster: {{server: "https://127.0.0.1:{PORT}", insecure-skip-tls-verify: true}}}}]
users: [{{name: admin, user: {{token: {TOKEN}}}}}]
contexts: [{{name: floor, context: {{cluster: floor, user: admin}}}}]
current-context: floor
"#
        );
        Ok(fs::write(self.kubeconfig(), kubeconfig)?)
    }

    fn start_etcd(&mut self, environment: &Environment) -> Result<()> {
        let mut etcd = Command::new("etcd");
        etcd.arg("--data-dir").arg(self.folder.path().join("etcd")).arg("--unsafe-no-fsync");
        etcd.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
        etcd.args(["--listen-peer-urls", ETCD_PEERS, "--initial-advertise-peer-urls", ETCD_PEERS]);
        etcd.args(["--initial-cluster", &format!("default={ETCD_PEERS}")]);
        self.spawn(etcd, &environment.logs.join("floor-etcd.log"))
    }

    fn start_api_server(&mut self, environment: &Environment) -> Result<()> {
        let at = |name: &str| self.folder.path().join(name);
        let mut server = Command::new(environment.floor()?);
        server.arg("--cert-dir").arg(at("certificates")).arg("--token-auth-file").arg(at("tokens"));
        server.arg("--service-account-key-file").arg(at("sa.pub"));
        server.arg("--service-account-signing-key-file").arg(at("sa.key"));
        server.args(["--service-account-issuer", "https://floor.test", "--authorization-mode", "RBAC"]);
        server.args([
            "--etcd-servers",
            ETCD,
            "--bind-address",
            "127.0.0.1",
            "--secure-port",
            &PORT.to_string(),
        ]);
        server.args(["--service-cluster-ip-range", "10.97.0.0/24"]);
        // Nobody connects to it: there is no route by which it could find one itself, and loopback is not allowed (RFC 5737: for examples).
        server.args(["--advertise-address", "192.0.2.1"]);
        self.spawn(server, &environment.logs.join("floor-kube-apiserver.log"))
    }

    fn spawn(&mut self, mut command: Command, log: &Path) -> Result<()> {
        let file = File::create(log).with_context(|| format!("could not make {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let started = command.spawn().with_context(|| format!("could not start {command:?}"))?;
        self.processes.push(started);
        Ok(())
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // The API server before its etcd.
        for process in self.processes.iter_mut().rev() {
            // It may have ended by itself, which a test has seen.
            let _ended = process.kill();
            let _ended = process.wait();
        }
    }
}
